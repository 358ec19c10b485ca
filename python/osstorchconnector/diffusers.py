"""Models and pipelines of Diffusers, loaded from OSS and saved there without a local copy of their weights.

::

    from osstorchconnector.diffusers import load_pretrained, save_pretrained

    pipeline = load_pretrained(
        "oss://bucket/diffusion/",
        "oss-cn-hangzhou-internal.aliyuncs.com",
        cred_path="/root/.alibabacloud/credentials",
    )

It needs Diffusers: ``pip install "diffusers>=0.42" "accelerate>=1.6"``.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, Final

from osstorchconnector._lazy import needs_torch
from osstorchconnector._tested_versions import warn_if_untested
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guarded
from osstorchconnector.exceptions import OssConfigError, OssFormatError

with needs_torch(__name__, __name__):
    import torch

    from osstorchconnector.model.hugging_face import load_from, save_pretrained
    from osstorchconnector.model.model import OssModel
    from osstorchconnector.model.pretrained import directory_of, fetch_small_files

__all__ = ["load_pretrained", "save_pretrained"]

# The oldest and the newest release that the tests were run with.
_TESTED: Final = ((0, 42), (0, 42))
_PIPELINE: Final = "model_index.json"


@guarded
def load_pretrained(
    uri: str,
    endpoint: str,
    cred_path: str = "",
    config_path: str = "",
    cred_provider: object = None,
    region: str = "",
    *,
    config: OssConfig | None = None,
    cls: Any = None,  # noqa: ANN401 - a class of Diffusers
    torch_dtype: torch.dtype | None = None,
    variant: str | None = None,
    **options: Any,  # noqa: ANN401 - of Diffusers
) -> Any:  # noqa: ANN401 - of that class
    """Return a pipeline or a model of Diffusers, as ``from_pretrained`` does.

    Small files are copied to a temporary folder. Weights go from OSS straight to the memory in which the models keep
    them. Code that a directory holds is not run.

    Args:
        uri: The directory.
        endpoint: As for :class:`OssClient`, and so are the next arguments.
        cred_path: See there.
        config_path: See there.
        cred_provider: See there.
        region: See there.
        config: See there.
        cls: The class of the pipeline or the model. Default: the one that the directory names.
        torch_dtype: The type of the weights. Default: as stored.
        variant: As for :func:`~osstorchconnector.model.open_model`.
        options: Of a pipeline: more arguments of ``from_pretrained``, such as parts of it. A model has none.

    Raises:
        OssConfigError: The directory names no class that Diffusers has, or an option is for pipelines.
        OssFormatError: A model lacks a tensor, or has others.
        OssNotFoundError: The directory has no model.
        OssError: A tensor could not be fetched.
    """
    import diffusers  # noqa: PLC0415 - slow

    warn_if_untested("diffusers", *_TESTED)
    client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
    directory = directory_of(uri)
    with tempfile.TemporaryDirectory(prefix="osst-model-") as name:
        folder = Path(name)
        fetch_small_files(client, directory, folder)
        if not (folder / _PIPELINE).exists():
            if options:
                raise OssConfigError(f"{directory} is a model, and {next(iter(options))!r} is an option of pipelines")
            found = cls or _named(diffusers, _read(folder / "config.json", directory).get("_class_name"), directory)
            with OssModel(client, directory, variant=variant) as opened:
                return _model(opened, folder, found, torch_dtype)
        parts = dict(options)
        for part, (library, kind) in _parts(_read(folder / _PIPELINE, directory)).items():
            if part in parts or (kind := _class_with_weights(library, kind)) is None:
                continue
            with OssModel(client, f"{directory}{part}/", variant=variant) as opened:
                if issubclass(kind, diffusers.ModelMixin):
                    parts[part] = _model(opened, folder / part, kind, torch_dtype)
                else:
                    parts[part] = load_from(opened, folder / part, kind, dtype=torch_dtype or "auto")
        pipeline = cls or diffusers.DiffusionPipeline
        return pipeline.from_pretrained(name, torch_dtype=torch_dtype, local_files_only=True, **parts)


def _model(opened: OssModel, folder: Path, cls: Any, dtype: torch.dtype | None) -> torch.nn.Module:  # noqa: ANN401
    from accelerate import init_empty_weights  # noqa: PLC0415 - slow

    # Buffers that are not stored get their values.
    with init_empty_weights(include_buffers=False):
        model: torch.nn.Module = cls.from_config(cls.load_config(folder))
    try:
        model.load_state_dict(opened.load(dtype=dtype), assign=True)
    except RuntimeError as error:
        raise OssFormatError(f"{opened.uri} does not fit a {cls.__name__}: {error}") from None
    if dtype is not None:
        model = model.to(dtype)
    return model.eval()


def _parts(index: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the library and the class of each part of a pipeline."""
    return {
        part: (entry[0], entry[1])
        for part, entry in index.items()
        if not part.startswith("_") and isinstance(entry, list) and len(entry) == 2 and None not in entry  # noqa: PLR2004
    }


def _class_with_weights(library: object, name: object) -> Any:  # noqa: ANN401 - a class
    """Return the class of a part that has weights; None for others, such as a scheduler."""
    import diffusers  # noqa: PLC0415 - slow
    import transformers  # noqa: PLC0415 - slow

    # Classes of one pipeline, such as its safety checker, are named by the module that defines the pipeline.
    libraries = {"diffusers": diffusers, "transformers": transformers}
    found = getattr(libraries.get(str(library), getattr(diffusers.pipelines, str(library), None)), str(name), None)
    has_weights = isinstance(found, type) and issubclass(found, (diffusers.ModelMixin, transformers.PreTrainedModel))
    return found if has_weights else None


def _read(path: Path, directory: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OssFormatError(f"{directory}{path.name} is not the configuration of a model: {error}") from None
    if not isinstance(content, dict):
        raise OssFormatError(f"{directory}{path.name} is not the configuration of a model")
    return content


def _named(library: Any, name: object, directory: str) -> Any:  # noqa: ANN401 - a class
    found = getattr(library, str(name), None)
    if not isinstance(found, type) or not issubclass(found, library.ModelMixin):
        raise OssConfigError(
            f"{directory}config.json names the class {name!r}, which Diffusers does not have: give cls="
        )
    return found
