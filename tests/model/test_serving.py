"""The loaders of vLLM and SGLang, with stand-ins for both: their packages need an accelerator.

The stand-ins have the abstract methods and the functions of vLLM 0.33.0 and SGLang 0.5.23, as their sources have them.
"""

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssFormatError, OssNotFoundError
from osstorchconnector.testing import Emulator
from tests.model.models import put, same


class BaseModelLoader(ABC):
    """As in ``vllm/model_executor/model_loader/base_loader.py``."""

    def __init__(self, load_config: Any) -> None:
        self.load_config = load_config

    @abstractmethod
    def download_model(self, model_config: Any) -> None: ...

    @abstractmethod
    def load_weights(self, model: torch.nn.Module, model_config: Any) -> None: ...


class HookType(Enum):
    """As in ``sglang/srt/plugins/hook_registry.py``."""

    AROUND = "around"


class Linear(torch.nn.Linear):
    """A model as both engines have them."""

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        loaded = set()
        with torch.no_grad():
            for name, tensor in weights:
                if name in dict(self.named_parameters()):
                    self.get_parameter(name).copy_(tensor)
                    loaded.add(name)
        return loaded


def modules(monkeypatch: pytest.MonkeyPatch, **found: dict[str, Any]) -> None:
    """Put stand-ins of modules, and of the packages that they are in, where Python looks for them."""
    for name, content in found.items():
        parts = name.split("__")
        for length in range(1, len(parts) + 1):
            path = ".".join(parts[:length])
            if path not in sys.modules:
                monkeypatch.setitem(sys.modules, path, ModuleType(path))
        vars(sys.modules[".".join(parts)]).update(content)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the stand-ins were given by their plug-ins."""
    found: dict[str, Any] = {"calls": 0}

    def register_model_loader(name: str) -> Callable[[type], type]:
        def register(cls: type) -> type:
            assert issubclass(cls, BaseModelLoader)
            found[name] = cls
            found["calls"] += 1
            return cls

        return register

    class HookRegistry:
        @classmethod
        def register(cls, target: str, hook: Any, hook_type: HookType) -> None:
            assert hook_type is HookType.AROUND
            found[target] = hook
            found["calls"] += 1

    modules(
        monkeypatch,
        vllm__model_executor__model_loader={"register_model_loader": register_model_loader},
        vllm__model_executor__model_loader__base_loader={"BaseModelLoader": BaseModelLoader},
        sglang__srt__plugins__hook_registry={"HookRegistry": HookRegistry, "HookType": HookType},
    )
    yield found
    for name in ("osstorchconnector.vllm", "osstorchconnector.sglang"):
        sys.modules.pop(name, None)


@pytest.fixture
def settings(emulator: Emulator, client: OssClient, bucket: str) -> dict[str, Any]:
    torch.manual_seed(1)
    put(client, f"oss://{bucket}/model.safetensors", torch.nn.Linear(20, 30).state_dict())
    return {"uri": f"oss://{bucket}/", **emulator.connection}


def vllm_loader(registered: dict[str, Any], extra: Any) -> Any:
    plugin = importlib.import_module("osstorchconnector.vllm")
    # vLLM calls it in every process, perhaps repeatedly.
    plugin.register()
    plugin.register()
    assert registered["calls"] == 1
    return registered["oss"](SimpleNamespace(model_loader_extra_config=extra))


def stored(emulator: Emulator, settings: dict[str, Any]) -> Any:
    from osstorchconnector.model import open_model  # noqa: PLC0415 - as late as the plug-ins import it

    with open_model(settings["uri"], **emulator.connection) as model:
        return model.load()


def test_vllm_loads_weights(emulator: Emulator, registered: dict[str, Any], settings: dict[str, Any]) -> None:
    loader = vllm_loader(registered, settings)
    model = Linear(20, 30)
    loader.download_model(SimpleNamespace())
    loader.load_weights(model, SimpleNamespace(quantization=None))
    assert same(dict(model.state_dict()), stored(emulator, settings))


def test_vllm_misses_a_weight(
    client: OssClient, bucket: str, registered: dict[str, Any], settings: dict[str, Any]
) -> None:
    put(client, f"oss://{bucket}/model.safetensors", {"weight": torch.ones(30, 20)})
    loader = vllm_loader(registered, settings)
    with pytest.raises(OssFormatError, match="has no weight 'bias' of a Linear"):
        loader.load_weights(Linear(20, 30), SimpleNamespace(quantization=None))
    loader.load_weights(Linear(20, 30), SimpleNamespace(quantization="fp8"))
    model = Linear(20, 30)
    model.secondary_weights = [object()]  # type: ignore[assignment]
    with pytest.raises(OssConfigError, match="reads weights from other places"):
        loader.load_weights(model, SimpleNamespace(quantization=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uri": None}, "must be a dictionary with the URI of a model"),
        ({"colour": 1}, "unknown key 'colour'; the keys are uri, endpoint"),
        ({"endpoint": ""}, "has no endpoint, and OSS_ENDPOINT is not set"),
    ],
)
def test_wrong_settings(
    registered: dict[str, Any], settings: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OssConfigError, match=f"--model-loader-extra-config.*{message}"):
        vllm_loader(registered, {**settings, **changes})


def test_a_model_that_is_not_there(registered: dict[str, Any], settings: dict[str, Any]) -> None:
    loader = vllm_loader(registered, {**settings, "uri": settings["uri"] + "nothing/"})
    with pytest.raises(OssNotFoundError, match="has no model"):
        loader.download_model(SimpleNamespace())


def test_sglang_loads_weights(emulator: Emulator, registered: dict[str, Any], settings: dict[str, Any]) -> None:
    plugin = importlib.import_module("osstorchconnector.sglang")
    plugin.register()
    plugin.register()
    assert registered["calls"] == 1
    hook = registered["sglang.srt.model_loader.loader.get_model_loader"]

    class DefaultModelLoader:
        """The parts of SGLang's loader that the plug-in uses."""

        def __init__(self, load_config: Any) -> None:
            assert load_config.model_loader_extra_config == {"num_threads": 2}

        def _get_all_weights(self, _model_config: Any, _model: Any) -> Any:
            raise AssertionError("it would read the disk")

        def load_model(self, model: Linear) -> None:
            model.load_weights(self._get_all_weights(None, model))

    def get_model_loader(load_config: Any, _model_config: Any = None) -> DefaultModelLoader:
        return DefaultModelLoader(load_config)

    own = SimpleNamespace(model_loader_extra_config={"num_threads": 2})
    assert isinstance(hook(get_model_loader, own), DefaultModelLoader)
    given = SimpleNamespace(model_loader_extra_config={"num_threads": 2, "oss": settings})
    loader = hook(get_model_loader, given, model_config=None)
    loader.download_model(None)
    model = Linear(20, 30)
    loader.load_model(model)
    assert same(dict(model.state_dict()), stored(emulator, settings))
    with pytest.raises(OssConfigError, match="'oss' of --model-loader-extra-config"):
        hook(get_model_loader, SimpleNamespace(model_loader_extra_config={"oss": {}}))
