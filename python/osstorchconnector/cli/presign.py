"""``osst presign``: URLs that need no access key."""

import argparse
from datetime import timedelta

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import say
from osstorchconnector.cli.listing import split_uri
from osstorchconnector.cli.output import emit
from osstorchconnector.cli.values import age


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "presign",
        help="print URLs that need no access key",
        description="Print a URL for each object. Anybody who has the URL may use it until it expires: it is a "
        "secret. No request is sent, so the object need not exist.",
    )
    parser.add_argument("uris", nargs="+", metavar="URI", help="oss://bucket/key")
    parser.add_argument(
        "--method", choices=("GET", "PUT", "HEAD", "DELETE"), default="GET", help="what it is for (default: GET)"
    )
    parser.add_argument(
        "--expires",
        type=age,
        default=timedelta(hours=1),
        metavar="AGE",
        help="how long it is valid, such as 30m or 7d, which is the most (default: 1h); a temporary access key ends it "
        "earlier",
    )
    parser.add_argument(
        "--content-type",
        metavar="TYPE",
        help="the media type that a PUT must have (default: it must have none; curl needs -H Content-Type:)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each URL")
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    client = connect(options)
    headers = {} if options.content_type is None else {"Content-Type": options.content_type}
    seconds = int(options.expires.total_seconds())
    for uri in options.uris:
        split_uri(uri)
        url = client.presign(uri, method=options.method, expires=seconds, headers=headers)
        if options.json:
            emit({"uri": uri, "method": options.method, "expires": seconds, "url": url})
        else:
            say(url)
    return 0
