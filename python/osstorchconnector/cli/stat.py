"""``osst stat``: everything that OSS tells of an object."""

import argparse
import dataclasses

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import say
from osstorchconnector.cli.listing import objects
from osstorchconnector.cli.output import emit, human


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "stat",
        help="show what OSS tells of objects",
        description="Show size, time, checksum, storage class, metadata and the rest of what OSS tells of an object.",
    )
    parser.add_argument("uris", nargs="+", metavar="URI", help="oss://bucket/key, or a pattern")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each object, on one line")
    parser.add_argument("--no-glob", dest="glob", action="store_false", help="*, ? and [ stand for themselves")
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    client = connect(options)
    for number, uri in enumerate(uri for given in options.uris for uri in objects(client, given, glob=options.glob)):
        found = client.stat(uri)
        values = {
            field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name != "headers"
        }
        values["last_modified"] = f"{found.last_modified:%Y-%m-%dT%H:%M:%SZ}" if found.last_modified else None
        if options.json:
            emit({"uri": uri, **values})
            continue
        if number:
            say("")
        say(uri)
        values["size"] = f"{found.size} ({human(found.size)})"
        metadata = values.pop("metadata")
        for name, value in values.items():
            if value is not None:
                say(f"  {name.replace('_', ' ')}: {value}")
        for name, value in metadata.items():
            say(f"  metadata {name}: {value}")
    return 0
