"""``osst du``: how many objects and bytes are below a prefix."""

import argparse
from collections import Counter

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import say
from osstorchconnector.cli.listing import Directory, Object, expand, pages
from osstorchconnector.cli.output import emit, shown_size
from osstorchconnector.cli.selection import Selection, add_selection


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "du",
        help="count objects and bytes",
        description="Count the objects and bytes below directories, or of what matches a pattern: bytes, objects, URI.",
    )
    parser.add_argument("uris", nargs="+", metavar="URI", help="oss://bucket, oss://bucket/prefix or a pattern")
    parser.add_argument(
        "--depth", type=int, default=0, metavar="N", help="also count each directory up to N levels below (default: 0)"
    )
    parser.add_argument("--bytes", action="store_true", help="print sizes as exact numbers of bytes")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each line")
    parser.add_argument("--no-glob", dest="glob", action="store_false", help="*, ? and [ stand for themselves")
    add_selection(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    client = connect(options)
    selection = Selection.of(options)
    for uri in options.uris:
        for found in expand(client, uri, glob=options.glob):
            sizes: Counter[str] = Counter()
            counts: Counter[str] = Counter()
            classes: Counter[str] = Counter()
            start = len(found.prefix) if isinstance(found, Directory) else found.row.key.rfind("/") + 1
            listed = [([found.row], None)] if isinstance(found, Object) else pages(client, found.bucket, found.prefix)
            for rows, _ in listed:
                for key, size, _etag, modified, _type, storage_class in rows:
                    if not selection.everything and not selection.takes(key[start:], modified):
                        continue
                    classes[storage_class] += size
                    for name in _above(key[start:], options.depth):
                        sizes[name] += size
                        counts[name] += 1
            for name in sorted({*sizes, ""}, key=lambda name: (name == "", name)):
                _show(found.uri + name, sizes[name], counts[name], None if name else classes, options)
    return 0


def _above(path: str, depth: int) -> list[str]:
    """Return the directories that an object counts for; the empty one is the whole."""
    if not depth:
        return [""]
    names = path.split("/")[:-1][:depth]
    return ["", *("/".join(names[: end + 1]) + "/" for end in range(len(names)))]


def _show(uri: str, size: int, count: int, classes: "Counter[str] | None", options: argparse.Namespace) -> None:
    if options.json:
        by_class = {} if classes is None else {"storage_classes": dict(classes)}
        emit({"uri": uri, "size": size, "objects": count, **by_class})
    else:
        say(f"{shown_size(size, exact=options.bytes):>{14 if options.bytes else 10}}  {count:>10}  {uri}")
