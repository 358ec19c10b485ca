"""``osst cat``: objects on standard output."""

import argparse
import re
import sys
from typing import IO, TYPE_CHECKING, Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.listing import objects

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

# The size of several requests, so that one read keeps them all in flight.
_CHUNK: Final = 32 << 20
# Objects and ranges up to this size are one request.
_SMALL: Final = 8 << 20


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "cat",
        help="write objects to standard output",
        description="Write objects to standard output, one after the other.",
    )
    parser.add_argument("uris", nargs="+", metavar="URI", help="oss://bucket/key, or a pattern")
    parser.add_argument(
        "--range",
        type=_range,
        default=(0, None),
        metavar="FIRST-LAST",
        help="only these bytes of each object, counted from 0, both included: 0-99, 100- for all from there, -100 for "
        "the last hundred",
    )
    parser.add_argument("--no-glob", dest="glob", action="store_false", help="*, ? and [ stand for themselves")
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _range(text: str) -> tuple[int, int | None]:
    """Return the first byte and the one after the last; a negative first one counts from the end."""
    match = re.fullmatch(r"([0-9]*)-([0-9]*)", text)
    first, last = match.groups() if match is not None else ("", "")
    if first and not last:
        return int(first), None
    if last and not first and int(last):
        return -int(last), None
    if not first or int(last) < int(first):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range: give FIRST-LAST, FIRST- or -LENGTH, such as 0-99")
    return int(first), int(last) + 1


def _run(options: argparse.Namespace) -> int:
    client = connect(options)
    output = sys.stdout.buffer
    for given in options.uris:
        for uri in objects(client, given, glob=options.glob):
            _write_range(client, uri, options.range, output)
    return 0


def _write_range(client: "OssClient", uri: str, span: tuple[int, int | None], output: IO[bytes]) -> None:
    size = client.head(uri).size
    first, end = span
    first = max(0, size + first) if first < 0 else min(first, size)
    end = size if end is None else min(end, size)
    if end - first <= _SMALL:
        if first < end or size == 0:
            whole = (first, end) == (0, size)
            _write(output, memoryview(client.get(uri) if whole else client.get(uri, first, end)))
        return
    buffer = memoryview(bytearray(_CHUNK))
    with client.reader(uri) as reader:
        reader.seek(first)
        while first < end:
            count = reader.readinto(buffer[: end - first])
            _write(output, buffer[:count])
            first += count


def _write(output: IO[bytes], data: memoryview) -> None:
    # Standard output may be unbuffered; it then takes only some of the bytes.
    while data.nbytes > 0:
        data = data[output.write(data) :]
