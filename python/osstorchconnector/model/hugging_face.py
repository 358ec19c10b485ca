"""Models of Transformers, loaded from OSS and saved there without a local copy of their weights."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from osstorchconnector._tested_versions import warn_if_untested
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guarded
from osstorchconnector.exceptions import OssConfigError, OssFormatError
from osstorchconnector.model.model import OssModel, Share, before_opening
from osstorchconnector.model.pretrained import Saved, directory_of, fetch_small_files

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# The oldest and the newest release that the tests were run with.
_TESTED: Final = ((5, 24), (5, 24))


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
    cls: Any = None,  # noqa: ANN401 - a class of Transformers
    dtype: torch.dtype | str | None = "auto",
    variant: str | None = None,
    share: Share | None = None,
    process_group: "ProcessGroup | None" = None,
    **options: Any,  # noqa: ANN401 - of Transformers
) -> Any:  # noqa: ANN401 - of that class
    """Return a model of Transformers, as ``from_pretrained`` does.

    Its configuration is copied to a temporary folder. Its weights go from OSS straight to the memory in which the model
    keeps them. Code that a directory holds is not run.

    Args:
        uri: The directory.
        endpoint: As for :class:`OssClient`, and so are the next arguments.
        cred_path: See there.
        config_path: See there.
        cred_provider: See there.
        region: See there.
        config: See there.
        cls: The class of the model. Default: the one that the configuration names. For a task, give the class itself,
            such as ``LlamaForSequenceClassification``.
        dtype: As for ``from_pretrained``.
        variant: As for :func:`~osstorchconnector.model.open_model`, and so are the next arguments.
        share: See there.
        process_group: See there.
        options: More arguments of ``from_pretrained``, except ``subfolder``: give the URI of the folder.

    Raises:
        OssConfigError: An argument is wrong, or the configuration names no class that Transformers has.
        OssNotFoundError: The directory has no model, or lacks a file of it.
        OssError: A tensor could not be fetched.
    """
    import transformers  # noqa: PLC0415 - slow

    if "subfolder" in options:
        raise OssConfigError(f"subfolder={options['subfolder']!r}: give the URI of the folder itself")
    warn_if_untested("transformers", *_TESTED)
    with tempfile.TemporaryDirectory(prefix="osst-model-") as name:
        folder = Path(name)
        with before_opening(share, process_group):
            client = OssClient(
                endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config
            )
            directory = directory_of(uri)
            fetch_small_files(client, directory, folder)
        with OssModel(client, directory, variant=variant, share=share, process_group=process_group) as opened:
            return load_from(opened, folder, cls or _class_of(folder, directory, transformers), dtype=dtype, **options)


def load_from(opened: OssModel, folder: Path, cls: Any, **options: Any) -> Any:  # noqa: ANN401 - a class of Transformers
    """Return a model of Transformers, from its opened weights and a folder with its small files."""
    settings = cls.config_class.from_pretrained(folder, local_files_only=True)
    model = cls.from_pretrained(None, config=settings, state_dict=opened.load(), **options)
    if (folder / "generation_config.json").exists() and getattr(model, "generation_config", None) is not None:
        model.generation_config = type(model.generation_config).from_pretrained(folder, local_files_only=True)
    model.config.name_or_path = opened.uri
    return model


@guarded
def load_tokenizer(
    uri: str,
    endpoint: str,
    cred_path: str = "",
    config_path: str = "",
    cred_provider: object = None,
    region: str = "",
    *,
    config: OssConfig | None = None,
    cls: Any = None,  # noqa: ANN401 - a class of Transformers
    **options: Any,  # noqa: ANN401 - of Transformers
) -> Any:  # noqa: ANN401 - of that class
    """Return the tokenizer or the processor of a model, as ``from_pretrained`` does.

    Args:
        uri: The directory.
        endpoint: As for :class:`OssClient`, and so are the next arguments.
        cred_path: See there.
        config_path: See there.
        cred_provider: See there.
        region: See there.
        config: See there.
        cls: The class. Default: ``AutoTokenizer``.
        options: More arguments of ``from_pretrained``.

    Raises:
        OssNotFoundError: The directory has no files of one.
    """
    import transformers  # noqa: PLC0415 - slow

    client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
    with tempfile.TemporaryDirectory(prefix="osst-model-") as name:
        fetch_small_files(client, directory_of(uri), Path(name))
        return (cls or transformers.AutoTokenizer).from_pretrained(name, local_files_only=True, **options)


@guarded
def save_pretrained(
    saved: Any,  # noqa: ANN401 - anything that has the method
    uri: str,
    endpoint: str,
    cred_path: str = "",
    config_path: str = "",
    cred_provider: object = None,
    region: str = "",
    *,
    config: OssConfig | None = None,
    **options: Any,  # noqa: ANN401 - of the method
) -> None:
    """Save a model, a pipeline or a tokenizer to a directory in OSS, by its own ``save_pretrained``.

    Its safetensors files are uploaded from memory, without a local copy. They, and then the other files, become visible
    when all are uploaded. An index of an earlier save that would hide the new file is an error.

    Args:
        saved: What is saved: a model of Transformers or Diffusers, for instance.
        uri: The directory.
        endpoint: As for :class:`OssClient`, and so are the next arguments.
        cred_path: See there.
        config_path: See there.
        cred_provider: See there.
        region: See there.
        config: See there.
        options: More arguments of its ``save_pretrained``.

    Raises:
        OssConfigError: It has no method ``save_pretrained``, or the directory has an index of an earlier save whose
            shards would be loaded in place of the new file.
        OssError: A file could not be stored. The previous model is unchanged, unless files were becoming visible.
    """
    if not callable(getattr(saved, "save_pretrained", None)):
        raise OssConfigError(f"a {type(saved).__name__} has no method save_pretrained")
    client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
    directory = directory_of(uri)
    with tempfile.TemporaryDirectory(prefix="osst-model-") as folder:
        target = Saved(client, directory, Path(folder))
        with target.redirected():
            saved.save_pretrained(folder, **options)
        target.publish()


def _class_of(folder: Path, directory: str, transformers: Any) -> Any:  # noqa: ANN401 - modules have no types
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError) as error:
        raise OssFormatError(f"{directory}config.json is not the configuration of a model: {error}") from None
    name = names[0] if isinstance(names, list) and names else None
    # Everybody who may write to the bucket chooses the name.
    found = getattr(transformers, str(name), None)
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        raise OssConfigError(
            f"{directory}config.json names the architecture {name!r}, which Transformers does not have: give cls="
        )
    return found
