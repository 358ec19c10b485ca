r"""A loader of SGLang that reads the weights of a model from OSS.

SGLang finds it by its entry point. Its list of load formats is closed, so the extra configuration chooses the loader.
The model is a local folder with the configuration, the tokenizer and no weights; the weights come from OSS::

    python -m sglang.launch_server --model-path /models/llama --model-loader-extra-config \
        '{"oss": {"uri": "oss://bucket/llama/", "endpoint": "oss-cn-hangzhou-internal.aliyuncs.com"}}'

It was written for SGLang 0.5.23, whose sources were read.
"""

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector._lazy import needs_library, needs_torch

with needs_torch(__name__, __name__), needs_library(__name__, "sglang"):
    import torch
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    from osstorchconnector.exceptions import OssConfigError
    from osstorchconnector.model.serving import Settings, tensors

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_KEY: Final = "oss"
_TARGET: Final = "sglang.srt.model_loader.loader.get_model_loader"


def register() -> None:
    """Put the loader beside those of SGLang: the entry point of ``sglang.srt.plugins``. It may be called repeatedly."""
    if not _registered:
        HookRegistry.register(_TARGET, _choose, HookType.AROUND)
        _registered.append(True)


_registered: list[bool] = []


def _choose(original: Callable[..., Any], load_config: Any, model_config: Any = None) -> Any:  # noqa: ANN401 - SGLang's
    """Return the loader of OSS if the extra configuration asks for it, else what SGLang returns."""
    extra = load_config.model_loader_extra_config
    if not isinstance(extra, dict) or _KEY not in extra:
        return original(load_config, model_config)
    settings = Settings(extra[_KEY], f"{_KEY!r} of --model-loader-extra-config")
    # SGLang's own loader does all but reading. It refuses a key that it does not know.
    plain = copy.copy(load_config)
    plain.model_loader_extra_config = {key: value for key, value in extra.items() if key != _KEY}
    loader = original(plain, model_config)
    if not hasattr(loader, "_get_all_weights"):
        raise OssConfigError(
            f"SGLang chose a {type(loader).__name__}, which reads no safetensors: use --load-format auto"
        )

    def get_all_weights(_model_config: Any, model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:  # noqa: ANN401
        if list(getattr(model, "secondary_weights", ())):
            raise OssConfigError(f"a {type(model).__name__} reads weights from other places than its own directory")
        return tensors(settings, _group())

    loader._get_all_weights = get_all_weights  # noqa: SLF001 - there is no public place for it
    loader.download_model = lambda _model_config: settings.open().close()
    return loader


def _group() -> "ProcessGroup | None":
    """Return the group of all ranks of the engine, if they all load the same model."""
    if not torch.distributed.is_initialized():
        return None
    from sglang.srt.distributed import get_pp_group, get_world_group  # noqa: PLC0415 - before that there are no groups

    world: Any = get_world_group()
    return world.cpu_group if world.world_size > 1 and get_pp_group().world_size == 1 else None
