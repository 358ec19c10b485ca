"""Manifests: files that name objects, with labels."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from osstorchconnector.connection.uri import split_local, split_object
from osstorchconnector.dataset.rows import Row, quoted
from osstorchconnector.dataset.snapshot import MAGIC, snapshot_parser
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.lines import bounded_lines
from osstorchconnector.files.opening import open_binary

if TYPE_CHECKING:
    from osstorchconnector._native import Client

#: Reads a manifest from a binary stream and yields the key and the label of each object, or key, label, size and ETag.
ManifestParser = Callable[[Any], Iterable[tuple[str, str] | tuple[str, str, int, str]]]


def line_manifest_parser(reader: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Parse lines of ``key`` or ``key label``, separated by spaces; empty lines are left out.

    In a line with a tab, only the tab separates the fields, so that the key before it may have spaces.

    Args:
        reader: The manifest, as a binary stream. It is read line by line, so it may be larger than memory.

    Raises:
        OssConfigError: A line has more than two fields or is not UTF-8; the message has its number.
    """
    return _parse_lines(reader, None)


def imagenet_manifest_parser(reader: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    r"""Parse lines of ``key`` or ``key\tlabel``, separated by a tab, without spaces around a line or empty lines.

    Args:
        reader: The manifest, as a binary stream. It is read line by line, so it may be larger than memory.

    Raises:
        OssConfigError: A line has more than two fields or is not UTF-8; the message has its number.
    """
    return _parse_lines(reader, "\t")


def _parse_lines(reader: Iterable[bytes], separator: str | None) -> Iterator[tuple[str, str]]:
    for number, raw in enumerate(bounded_lines(reader), start=1):
        try:
            # The original strips lines, and knows no separator but the tab.
            line = raw.decode("utf-8").strip(None if separator else "\r\n")
        except UnicodeDecodeError as error:
            raise OssConfigError(f"line {number} of the manifest is not UTF-8: {error}") from error
        tab = separator or ("\t" if "\t" in line else None)
        if not line.strip() and tab is separator:
            continue
        match line.split(tab):
            case [key]:
                yield key, ""
            case [key, label]:
                yield key, label
            case fields:
                raise OssConfigError(
                    f"line {number} of the manifest has {len(fields)} fields, not a key and at most one label; "
                    "keys with spaces need a parser that separates by tabs, such as imagenet_manifest_parser"
                )


def default_manifest_parser(reader: Any) -> Iterator[tuple[str, str] | tuple[str, str, int, str]]:  # noqa: ANN401
    """Parse a snapshot, or lines as :func:`line_manifest_parser` does.

    Raises:
        OssConfigError: A line cannot be parsed; the message has its number.
        OssIntegrityError: A snapshot was cut short or edited.
    """
    lines = bounded_lines(reader)
    first = next(lines, b"")
    parser: ManifestParser = snapshot_parser if first.startswith(MAGIC) else line_manifest_parser
    yield from parser(chain((first,), lines))


def manifest_rows(manifest: str, parser: ManifestParser, base_uri: str, client: "Client") -> Iterator[Row]:
    """Yield a row for each object that a manifest names, and read it only as far as rows are wanted.

    Args:
        manifest: Path of a local file, or the URI of an object.
        parser: Parses it.
        base_uri: The beginning of each URI; the key follows it. A key that is a URI is complete.
        client: Opens a manifest in OSS.

    Raises:
        OssConfigError: The file cannot be opened, or the parser yields something other than keys with labels.
        OssError: The manifest cannot be read from OSS.
    """
    split = split_local if client.local else split_object
    with open_binary(manifest, client) as reader:
        for number, entry in enumerate(parser(reader), start=1):
            match entry:
                case (str(key), str(label)):
                    known: tuple[int | None, str | None] = None, None
                case (str(key), str(label), int(size), str(etag)):
                    known = size, quoted(etag)
                case _:
                    raise OssConfigError(
                        f"entry {number} of {manifest}: the manifest parser must yield (key, label) pairs of str, or "
                        f"(key, label, size, etag), not {entry!r}"
                    )
            bucket, name = split(key if key.startswith("oss://") else base_uri + key)
            yield bucket, name, *known, label, None


def label_below(key: str, prefix: str) -> str:
    """Return the first directory of a key below a prefix, or an empty string if there is none.

    Args:
        key: The key or the name of a member.
        prefix: The beginning of the key. If it ends inside a name, only its part up to the last slash counts.
    """
    label, separator, _ = key[prefix.rfind("/") + 1 :].partition("/")
    return label if separator else ""
