"""Converting a checkpoint into another form."""

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from osstorchconnector.connection.client import OssClient
from osstorchconnector.conversion.opening import open_source
from osstorchconnector.conversion.source import Source, selected
from osstorchconnector.conversion.targets import (
    write_distributed,
    write_hugging_face,
    write_safetensors,
    write_torch,
)
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.transfer import is_remote
from osstorchconnector.safetensor.sizes import SHARD_BYTES, shard_size

#: The forms of a target.
FORMS: Final = ("hf", "safetensors", "torch", "dcp")
_TORCH_SUFFIXES: Final = frozenset({".pt", ".pth", ".bin", ".ckpt"})


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        form: The form of the target: ``"hf"``, ``"safetensors"``, ``"torch"`` or ``"dcp"``.
        tensors: Number of tensors.
        objects: Number of entries that are no tensors.
        nbytes: Bytes of all tensors.
    """

    form: str
    tensors: int
    objects: int
    nbytes: int


def convert_checkpoint(
    source: str,
    target: str,
    client: OssClient | None = None,
    *,
    target_client: OssClient | None = None,
    form: str | None = None,
    keys: str | Iterable[str] | None = None,
    strip: str = "",
    max_shard_size: int | str = "5GB",
    progress: Callable[[int, int], object] | None = None,
) -> Converted:
    """Write a checkpoint in another form, from a bucket or a disk to a bucket or a disk.

    Tensors are read and written one after the other. In memory are the largest tensor, some 128 MiB of others, and what
    an upload holds.

    A source is a distributed checkpoint of torch, a directory of safetensors files with or without an index, the shards
    of torch's ``HuggingFaceStorageWriter``, a safetensors file, or a file of ``torch.save``. Code that a file names is
    not run.

    Args:
        source: An ``oss://`` URI, or a path.
        target: An ``oss://`` URI, or a path. There must be nothing yet.
        client: Reads and writes objects. It is not needed if both places are local.
        target_client: Writes the target, if that needs another one.
        form: ``"hf"`` for a directory of safetensors files with an index, ``"safetensors"`` for one such file,
            ``"torch"`` for a file of ``torch.save``, ``"dcp"`` for a distributed checkpoint. Default: what the target's
            name ends with says, or else ``"hf"`` for a distributed checkpoint and ``"dcp"`` for all others.
        keys: Patterns of the names to take, such as ``"model.*"``. Default: all.
        strip: A beginning to leave out of the names, such as ``"model."``. Names without it are left out.
        max_shard_size: Upper limit of the bytes of tensors in one file of ``"hf"``, as a number or like ``"5GB"``.
        progress: Called with the bytes of tensors that were written since the last call, and with those of all.

    Raises:
        OssConfigError: There is no checkpoint, something is at the target, or the form cannot hold what there is.
        OssError: Something could not be read or written; then the target is not complete.
    """
    writes = target_client or client
    if is_remote(target) and writes is None:
        raise OssConfigError(f"{target} is in a bucket: give a client")
    if form is not None and form not in FORMS:
        raise OssConfigError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    limit = shard_size(SHARD_BYTES, max_shard_size, directory=True)
    opened = open_source(source, client)
    try:
        chosen = form or _form_of(target, opened)
        _check_empty(target, writes)
        if keys is not None or strip:
            patterns = [keys] if isinstance(keys, str) else list(keys or ["*"])
            matches = re.compile("|".join(map(fnmatch.translate, patterns))).match
            opened = selected(opened, lambda name: matches(name) is not None, strip)
        total = opened.nbytes

        def advance(count: int) -> None:
            if progress is not None:
                progress(count, total)

        if chosen == "hf":
            write_hugging_face(opened, target, writes, advance, shard_bytes=limit)
        elif chosen == "safetensors":
            write_safetensors(opened, target, writes, advance)
        elif chosen == "torch":
            write_torch(opened, target, writes, advance)
        else:
            write_distributed(opened, target, writes, advance)
    finally:
        opened.close()
    return Converted(chosen, len(opened.tensors), len(opened.objects), total)


def _form_of(target: str, source: Source) -> str:
    suffix = PurePosixPath(target).suffix
    if not target.endswith("/"):
        if suffix in _TORCH_SUFFIXES:
            return "torch"
        if suffix == ".safetensors":
            return "safetensors"
    return "hf" if source.distributed else "dcp"


def _check_empty(target: str, client: OssClient | None) -> None:
    """Check that nothing is lost, and that no program finds files of two checkpoints.

    Raises:
        OssConfigError: There is something at the target.
    """
    if client is not None and is_remote(target):
        below = next(client.list(f"{target.rstrip('/')}/"), None)
        here = next((item for item in client.list(target) if item.uri == target), None) if below is None else below
        if here is not None:
            raise OssConfigError(f"{here.uri} is there already: give a target where nothing is")
        return
    path = Path(target)
    if path.is_dir() and next(path.iterdir(), None) is not None:
        raise OssConfigError(f"{target} is not empty: give a target where nothing is")
    if path.exists() and not path.is_dir():
        raise OssConfigError(f"{target} is there already: give a target where nothing is")
