"""Which objects of a directory are its model: an index and its shards, shards alone, one file, or a checkpoint."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from osstorchconnector.connection.client import OssClient, get_bounded
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssFormatError, OssNotFoundError, OssPermissionError
from osstorchconnector.safetensor.shards import LONGEST_INDEX, read_index

if TYPE_CHECKING:
    from osstorchconnector._native import DataObject

Form = Literal["index", "shards", "file", "checkpoint"]

#: The end of the name of a safetensors object.
SUFFIX: Final = ".safetensors"
_METADATA_NAME: Final = ".metadata"
# The names that Transformers and Diffusers save a model under. One of them wins over any other name.
_STEMS: Final = ("model", "diffusion_pytorch_model")
# The same model once more, as its authors trained it. It counts only if it is alone.
_CONSOLIDATED: Final = "consolidated"
# torch puts the rank before the name, Transformers the variant before the number, and old Diffusers after it.
_FILE: Final = re.compile(
    r"(?P<rank>shard-\d+-)?(?P<stem>.+?)(?:-(?P<number>\d+)-of-(?P<count>\d+)(?P<variant>\.[^.]+)?)?\.safetensors"
)
_INDEX: Final = re.compile(r"(?P<stem>.+)\.safetensors\.index(?P<variant>\.[^.]+)?\.json")
# A directory of a model has some hundred objects; a prefix of a dataset may have millions.
_MOST_LISTED: Final = 10_000
_SHOWN: Final = 8


@dataclass(frozen=True)
class Layout:
    """The objects of a model.

    Attributes:
        form: How they belong together.
        files: Their URIs.
        index: The URI of each tensor's object, if an index says so.
        said_by: The object or the directory that says which objects these are.
    """

    form: Form
    files: tuple[str, ...]
    index: Mapping[str, str] | None
    said_by: str


@dataclass
class _Candidate:
    """Objects of one name."""

    index: str | None = None
    #: The rank, the number and the count that each name holds.
    files: dict[str, tuple[str, int, int]] = field(default_factory=dict)


def find_model(client: OssClient, uri: str, variant: str | None = None) -> Layout:
    """Return the objects of a model.

    Args:
        client: Lists the directory and reads the index.
        uri: A safetensors object, an index, or a directory, with or without its ``/``.
        variant: The variant whose objects are meant, such as ``"fp16"``.

    Raises:
        OssNotFoundError: There is no model.
        OssFormatError: There are two, or a shard is missing, or the index is malformed.
    """
    if uri.endswith(SUFFIX):
        return Layout("file", (uri,), None, uri)
    if uri.endswith(".json"):
        return _indexed(client, uri)
    directory = uri if uri.endswith("/") else f"{uri}/"
    items: list[DataObject] = []
    unlisted = None
    try:
        items = list(itertools.islice(client.list(directory, delimiter="/"), _MOST_LISTED + 1))
    except OssPermissionError:
        # Some keys may read objects and not list them.
        unlisted = "may not be listed"
    if len(items) > _MOST_LISTED:
        unlisted = f"holds more than {_MOST_LISTED} objects"
    if unlisted is not None:
        return _unlisted(client, directory, variant, unlisted)
    _, prefix = split_prefix(directory)
    names = [name for item in items if (name := item.name.removeprefix(prefix)) and not name.endswith("/")]
    candidates = _candidates(names)
    chosen = _choose(candidates, names, directory, variant)
    if chosen is None:
        if _METADATA_NAME in names and variant is None:
            return _checkpoint(client, directory)
        raise _nothing(client, directory, names, variant)
    candidate = candidates[chosen]
    if candidate.index is not None:
        return _indexed(client, directory + candidate.index)
    files = _complete(candidate, directory)
    return Layout("file" if len(files) == 1 else "shards", tuple(directory + name for name in files), None, directory)


def indices_before(file: str) -> list[str]:
    """Return the names of the indices that would make a directory another model than one file in it."""
    found = _FILE.fullmatch(file)
    if found is None or found["number"] is not None:
        return []
    stem, dot, variant = found["stem"].rpartition(".")
    names = [f"{found['stem']}{SUFFIX}.index.json"]
    return [*names, f"{stem}{SUFFIX}.index.{variant}.json"] if dot else names


def _candidates(names: Sequence[str]) -> dict[str, _Candidate]:
    found: dict[str, _Candidate] = {}
    for name in names:
        if index := _INDEX.fullmatch(name):
            found.setdefault(index["stem"] + (index["variant"] or ""), _Candidate()).index = name
        elif file := _FILE.fullmatch(name):
            place = (file["rank"] or "", int(file["number"] or 0), int(file["count"] or 0))
            found.setdefault(file["stem"] + (file["variant"] or ""), _Candidate()).files[name] = place
    return found


def _choose(
    candidates: Mapping[str, _Candidate], names: Sequence[str], directory: str, variant: str | None
) -> str | None:
    """Return the name of the model, or None.

    Raises:
        OssFormatError: There is more than one.
    """
    if variant is not None:
        usual = [stem for stem in candidates if stem in {f"{usual}.{variant}" for usual in _STEMS}]
        return _only(usual or [stem for stem in candidates if stem.endswith(f".{variant}")], directory)
    usual = [stem for stem in _STEMS if stem in candidates]
    if usual and _METADATA_NAME in names:
        raise OssFormatError(
            f"{directory} holds two models, {usual[0]}{SUFFIX} and a distributed checkpoint ({_METADATA_NAME}): give "
            "the URI of the object or the index, or move one of them to a directory of its own"
        )
    if usual:
        return _only(usual, directory)
    if _METADATA_NAME in names:
        return None
    others = [stem for stem in candidates if not stem.startswith(_CONSOLIDATED)]
    return _only(others or list(candidates), directory)


def _only(stems: Sequence[str], directory: str) -> str | None:
    if len(stems) > 1:
        shown = ", ".join(f"{stem}{SUFFIX}" for stem in sorted(stems)[:_SHOWN])
        raise OssFormatError(
            f"{directory} holds {len(stems)} models, {shown}: give the URI of one object or index, or the variant"
        )
    return stems[0] if stems else None


def _complete(candidate: _Candidate, directory: str) -> list[str]:
    """Return the names of all shards, in order.

    Raises:
        OssFormatError: One is missing, or there are shards of two models.
    """
    ranks: dict[str, dict[tuple[int, int], str]] = {}
    for name, (rank, number, count) in candidate.files.items():
        shards = ranks.setdefault(rank, {})
        (_, first_count), first = next(iter(shards.items()), ((number, count), name))
        if first_count != count or (number, count) in shards:
            other = shards.get((number, count), first)
            raise OssFormatError(
                f"{directory} holds files of two models under one name, such as {other} and {name}, and no index: make "
                "an index that names the file of each tensor, or delete the files that do not belong to it"
            )
        shards[number, count] = name
    ordered = []
    for _, shards in sorted(ranks.items()):
        (_, count), some = next(iter(shards.items()))
        # Everybody who may write to the bucket chooses the count.
        missing = next((number for number in range(1, count + 1) if (number, count) not in shards), None)
        if missing is not None:
            raise OssFormatError(f"{directory} lacks shard {missing} of {count} beside {some}: the model is incomplete")
        ordered += [shards[place] for place in sorted(shards)]
    return ordered


def _indexed(client: OssClient, uri: str) -> Layout:
    index = read_index(get_bounded(client, uri, LONGEST_INDEX), uri)
    return Layout("index", tuple(dict.fromkeys(sorted(index.values()))), index, uri)


def _unlisted(client: OssClient, directory: str, variant: str | None, why: str) -> Layout:
    """Find a model by the usual names.

    Args:
        client: Reads the index.
        directory: The directory.
        variant: The variant whose objects are meant.
        why: Why its other names are not known, for the message.

    Raises:
        OssNotFoundError: There is none.
    """
    infix = "" if variant is None else f".{variant}"
    missing: OssNotFoundError | None = None
    for stem in _STEMS:
        try:
            return _indexed(client, f"{directory}{stem}{SUFFIX}.index{infix}.json")
        except OssNotFoundError as error:
            missing = error
        uri = f"{directory}{stem}{infix}{SUFFIX}"
        try:
            client.head(uri)
        except OssNotFoundError as error:
            missing = error
            continue
        return Layout("file", (uri,), None, directory)
    raise OssNotFoundError(
        f"{directory} has none of the usual names of a model, and {why}: give the URI of its index or file"
    ) from missing


def _checkpoint(client: OssClient, directory: str) -> Layout:
    # Only checkpoints need torch.distributed.
    from osstorchconnector.dcp.metadata import items_of, read_metadata  # noqa: PLC0415

    metadata = read_metadata(client, directory + _METADATA_NAME)
    files = sorted({item.relative_path for item in items_of(metadata)})
    others = [file for file in files if not file.endswith(SUFFIX)]
    if others or not files:
        raise OssFormatError(
            f"{directory} is a distributed checkpoint whose files are not safetensors, such as "
            f"{others[0] if others else 'none'}: load it with torch.distributed.checkpoint and OssFileSystem.reader"
        )
    return Layout("checkpoint", tuple(directory + file for file in files), None, directory + _METADATA_NAME)


def _nothing(client: OssClient, directory: str, names: Sequence[str], variant: str | None) -> OssNotFoundError:
    bucket, prefix = split_prefix(directory)
    if not names:
        return OssNotFoundError(
            f"{directory} has no model: {nothing_below(client, bucket, prefix)}", bucket=bucket, key=prefix
        )
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    what = "safetensors object" if variant is None else f"safetensors object of the variant {variant!r}"
    return OssNotFoundError(f"{directory} has no {what}, but {shown}", bucket=bucket, key=prefix)
