"""``osst manifest``: the objects under a prefix, as a file that datasets read instead of listing."""

import argparse
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

from osstorchconnector._printable import printable_lines
from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import report
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.dataset.manifest import label_below
from osstorchconnector.dataset.snapshot import SnapshotWriter
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.writing import writing

if TYPE_CHECKING:
    from osstorchconnector._native import DataObject, Writer
    from osstorchconnector.connection.client import OssClient

# A listing of some hundred thousand objects takes less and prints nothing; a longer one must not seem to hang.
_PROGRESS_SECONDS: Final = 5.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "manifest",
        help="write the objects under a prefix into a manifest",
        description="List the objects under a prefix and write a line for each: its key, and a label if wanted. "
        "Datasets read the file with from_manifest_file(FILE, None, 'oss://bucket/', ...) instead of listing.",
    )
    parser.add_argument("uri", help="the prefix to list, like oss://bucket/prefix/")
    parser.add_argument(
        "--output", default="-", metavar="FILE", help="local path or oss:// URI (default: standard output)"
    )
    parser.add_argument(
        "--labels-from-prefix", action="store_true", help="label each object with its first directory below the prefix"
    )
    parser.add_argument(
        "--snapshot", action="store_true", help="also write sizes, ETags, and a digest that detects damage to the file"
    )
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    client = connect(options)
    bucket, prefix = split_prefix(options.uri)
    with _output(options.output, client) as target:
        count = _write(target, _listed(client, bucket, prefix), bucket, prefix, options)
    report("manifest", f"{count} objects")
    return 0


@contextmanager
def _output(path: str, client: "OssClient") -> Iterator["IO[bytes] | Writer"]:
    if path == "-":
        shown: IO[bytes] = _Terminal() if sys.stdout.isatty() else sys.stdout.buffer
        yield shown
        sys.stdout.flush()
        return
    with writing(path, client) as target:
        yield target


class _Terminal(io.BytesIO):
    """A manifest that is shown instead of stored."""

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        sys.stdout.write(printable_lines(bytes(data).decode(errors="replace")))
        return len(data)


def _listed(client: "OssClient", bucket: str, prefix: str) -> Iterator["DataObject"]:
    count = markers = 0
    reported = time.monotonic()
    for listed in client.list(f"oss://{bucket}/{prefix}"):
        if listed.size == 0 and listed.name.endswith("/"):
            markers += 1
            continue
        count += 1
        yield listed
        if time.monotonic() - reported >= _PROGRESS_SECONDS:
            reported = time.monotonic()
            report("manifest", f"{count} objects so far")
    if markers:
        report("manifest", f"left out {markers} directory markers")
    if count == 0:
        # Raised before the manifest appears: an empty one would hide a misspelt prefix.
        raise OssConfigError(
            f"oss://{bucket}/{prefix} has only directory markers"
            if markers
            else f"{nothing_below(client, bucket, prefix)}; no manifest was written"
        )


def _write(
    target: "IO[bytes] | Writer", objects: Iterator["DataObject"], bucket: str, prefix: str, options: argparse.Namespace
) -> int:
    snapshot = SnapshotWriter(target, bucket, prefix) if options.snapshot else None
    count = 0
    for count, listed in enumerate(objects, start=1):  # noqa: B007 - the last number is the count
        label = label_below(listed.name, prefix) if options.labels_from_prefix else ""
        if snapshot is not None:
            snapshot.add(listed.name, listed.size, listed.etag or "", label)
        else:
            target.write(_line(listed.name, label))
    if snapshot is not None:
        snapshot.finish()
    return count


def _line(key: str, label: str) -> bytes:
    if any(character in key + label for character in "\t\r\n") or key.startswith("oss://"):
        raise OssConfigError(f"a manifest cannot hold the key {key!r}: use --snapshot, whose file can hold any key")
    if all(text.split() == [text] for text in (key, label or "none")):
        return f"{key} {label}\n".encode() if label else f"{key}\n".encode()
    return f"{key}\t{label}\n".encode()
