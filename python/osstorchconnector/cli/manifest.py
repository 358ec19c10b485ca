"""``osst manifest``: what lies under a prefix, as a file that datasets read instead of listing."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.dataset.manifest import label_below
from osstorchconnector.dataset.snapshot import SnapshotWriter
from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.files.writing import writing

if TYPE_CHECKING:
    from osstorchconnector._native import DataObject, Writer
    from osstorchconnector.connection.client import OssClient

# Long enough that a listing of some hundred thousand objects says nothing, short enough that nobody thinks it hangs.
_PROGRESS_SECONDS: Final = 5.0

# What a shell gives a program that Ctrl-C ended.
_INTERRUPTED: Final = 130


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "manifest",
        help="write the objects under a prefix into a manifest",
        description="List the objects under a prefix and write a line for each: its key, and a label if wanted. "
        "Datasets read it with from_manifest_file(FILE, None, 'oss://bucket/', ...) and need not list.",
    )
    parser.add_argument("uri", help="what to list, like oss://bucket/prefix/")
    parser.add_argument(
        "--output", default="-", metavar="FILE", help="local path or oss:// URI (default: standard output)"
    )
    parser.add_argument(
        "--labels-from-prefix", action="store_true", help="label each object with its first directory below the prefix"
    )
    parser.add_argument(
        "--snapshot", action="store_true", help="write sizes and ETags too, and a digest that tells a damaged file"
    )
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        client = connect(options)
        bucket, prefix = split_prefix(options.uri)
        with _output(options.output, client) as target:
            count = _write(target, _listed(client, bucket, prefix), bucket, prefix, options)
    except (OSError, OssError) as error:
        sys.stderr.write(f"osst manifest: {error}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    sys.stderr.write(f"osst manifest: {count} objects\n")
    return 0


@contextmanager
def _output(path: str, client: "OssClient") -> Iterator["IO[bytes] | Writer"]:
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with writing(path, client) as target:
        yield target


def _listed(client: "OssClient", bucket: str, prefix: str) -> Iterator["DataObject"]:
    count = markers = 0
    told = time.monotonic()
    for item in client.list(f"oss://{bucket}/{prefix}"):
        if item.size == 0 and item.name.endswith("/"):
            markers += 1
            continue
        count += 1
        yield item
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            sys.stderr.write(f"osst manifest: {count} objects so far\n")
    if markers:
        sys.stderr.write(f"osst manifest: {markers} directory markers are left out\n")


def _write(
    target: "IO[bytes] | Writer", items: Iterator["DataObject"], bucket: str, prefix: str, options: argparse.Namespace
) -> int:
    snapshot = SnapshotWriter(target, bucket, prefix) if options.snapshot else None
    count = 0
    for count, item in enumerate(items, start=1):  # noqa: B007 - the last number is the count
        label = label_below(item.name, prefix) if options.labels_from_prefix else ""
        if snapshot is not None:
            snapshot.add(item.name, item.size, item.etag or "", label)
        else:
            target.write(_line(item.name, label))
    if snapshot is not None:
        snapshot.finish()
    return count


def _line(key: str, label: str) -> bytes:
    if any(character in key + label for character in "\t\r\n") or key.startswith("oss://"):
        raise OssConfigError(f"a manifest cannot hold the key {key!r}; write one with --snapshot, which can")
    if all(text.split() == [text] for text in (key, label or "none")):
        return f"{key} {label}\n".encode() if label else f"{key}\n".encode()
    return f"{key}\t{label}\n".encode()
