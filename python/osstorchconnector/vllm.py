r"""A loader of vLLM that reads the weights of a model from OSS.

vLLM finds it by its entry point, as the load format ``oss``. The model is a local folder with the configuration, the
tokenizer and no weights; the weights come from OSS::

    vllm serve /models/llama --load-format oss --model-loader-extra-config \
        '{"uri": "oss://bucket/llama/", "endpoint": "oss-cn-hangzhou-internal.aliyuncs.com"}'

It was written for vLLM 0.33, whose sources were read.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from osstorchconnector._lazy import needs_library, needs_torch

with needs_torch(__name__, __name__), needs_library(__name__, "vllm"):
    import torch
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    from osstorchconnector.exceptions import OssConfigError, OssFormatError
    from osstorchconnector.model.serving import Settings, tensors

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from vllm.config import ModelConfig
    from vllm.config.load import LoadConfig

_OPTION = "--model-loader-extra-config"


class OssModelLoader(BaseModelLoader):  # type: ignore[misc, unused-ignore] # without vLLM it has no type
    """Reads the weights of a model from OSS. vLLM makes it for ``--load-format oss``.

    All ranks of a machine fetch each byte once, unless the extra configuration has ``"share": null``, or the engine
    divides the layers over ranks (pipeline parallelism): then a draft model is loaded by some of the ranks alone.
    """

    def __init__(self, load_config: "LoadConfig") -> None:
        """Take the settings; the network is not used.

        Args:
            load_config: Its ``model_loader_extra_config`` has ``uri``, and optionally ``endpoint``, ``cred_path``,
                ``config_path``, ``region``, ``variant``, ``budget``, ``concurrency`` and ``share``, as
                :func:`~osstorchconnector.model.open_model` has them. Without ``endpoint``: ``OSS_ENDPOINT``.

        Raises:
            OssConfigError: A setting is missing or wrong.
        """
        super().__init__(load_config)
        self._settings = Settings(load_config.model_loader_extra_config, _OPTION)

    def download_model(self, model_config: "ModelConfig") -> None:  # noqa: ARG002 - vLLM's
        """Check that the model is there. Nothing is downloaded ahead.

        Raises:
            OssError: It is not, or is incomplete.
        """
        self._settings.open().close()

    def load_weights(self, model: torch.nn.Module, model_config: "ModelConfig") -> None:
        """Load the weights into an initialised model.

        Raises:
            OssConfigError: The model has weights in other places too.
            OssFormatError: The model needs a weight that the objects do not hold.
            OssError: A tensor could not be fetched.
        """
        if list(getattr(model, "secondary_weights", ())):
            raise OssConfigError(
                f"a {type(model).__name__} reads weights from other places than its own directory, which the load "
                "format oss does not: use another load format"
            )
        loaded = model.load_weights(self._weights())  # type: ignore[operator]
        # As vLLM's own loader does for models whose weights are all stored under the names of parameters.
        if isinstance(loaded, set) and model_config.quantization is None:
            missing = sorted({name for name, _ in model.named_parameters()} - loaded - _computed(model))
            if missing:
                raise OssFormatError(f"{self._settings.uri} has no weight {missing[0]!r} of a {type(model).__name__}")

    def _weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        return tensors(self._settings, _group())


def register() -> None:
    """Register the load format ``oss``: the entry point of ``vllm.general_plugins``, which may be called repeatedly."""
    if not _registered:
        register_model_loader("oss")(OssModelLoader)
        _registered.append(True)


_registered: list[bool] = []


def _group() -> "ProcessGroup | None":
    """Return the group of all ranks of the engine, if they all load the same model."""
    if not torch.distributed.is_initialized():
        return None
    from vllm.distributed import get_pp_group, get_world_group  # noqa: PLC0415 - before that there are no groups

    world: Any = get_world_group()
    return world.cpu_group if world.world_size > 1 and get_pp_group().world_size == 1 else None


def _computed(model: torch.nn.Module) -> set[str]:
    """Return the parameters that are made after loading, such as scales of quantization on the way."""
    found = set()
    for name, module in model.named_modules():
        method = getattr(module, "quant_method", None)
        if getattr(method, "uses_meta_device", False) or hasattr(method, "process_weights_after_loading"):
            prefix = f"{name}." if name else ""
            found |= {f"{prefix}{parameter}" for parameter, _ in module.named_parameters()}
    return found
