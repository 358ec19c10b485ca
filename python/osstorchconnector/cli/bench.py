"""``osst bench``: how fast this machine reads from a prefix, and what limits it."""

import argparse
import json
import signal
import sys
from pathlib import Path

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import interrupt, report, say
from osstorchconnector.cli.output import human
from osstorchconnector.cli.values import seconds, size

_TRAFFIC = 1 << 30
_SECONDS = 15.0
# More processes than that are a job of their own.
_MOST_WORKERS = 64


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "bench",
        help="measure reading, and say what limits it",
        description="Read the objects below a prefix in several ways for a bounded time. Say how fast that is, what "
        "limits it, and which settings are worth a change. It reads at most 1 GiB unless --traffic allows more.",
        epilog="The exit status is 0 if everything was measured, 1 if not, 2 if the arguments are wrong, and 130 after "
        "Ctrl-C.",
    )
    parser.add_argument("uri", metavar="URI", help="the prefix of the objects, like oss://bucket/prefix/")
    parser.add_argument(
        "--traffic", type=size, default=_TRAFFIC, metavar="SIZE", help="most bytes to read and write (default: 1G)"
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=_SECONDS,
        metavar="N",
        help=f"seconds of all measurements together; starting their processes adds to it (default: {_SECONDS:.0f})",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=(2, 4),
        metavar="N,N",
        help="numbers of worker processes to try (default: 2,4)",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="also measure writing: objects below the prefix, which are deleted at the end",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--report", metavar="FILE", help="also write the result as an HTML page to send to others")
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _workers(text: str) -> tuple[int, ...]:
    numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in text.split(",")]
    if not all(1 < number <= _MOST_WORKERS for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers from 2 to {_MOST_WORKERS}, such as 2,4")
    return tuple(sorted(set(numbers)))


def _run(options: argparse.Namespace) -> int:
    # What was written is then deleted, as after Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    return _measure(options)


def _measure(options: argparse.Namespace) -> int:
    # The other commands need none of them.
    from osstorchconnector.cli.bench_runs.benchmark import Benchmark  # noqa: PLC0415
    from osstorchconnector.cli.bench_runs.runner import CONNECTION  # noqa: PLC0415
    from osstorchconnector.cli.bench_runs.sample import sample  # noqa: PLC0415
    from osstorchconnector.cli.bench_runs.text import lines  # noqa: PLC0415

    client = connect(options)
    found = sample(client, options.uri, options.traffic)
    verb = "read and write" if options.write else "read"
    report("bench", f"will {verb} at most {human(options.traffic)}, and measure for {options.seconds:.0f} seconds")
    result = Benchmark(
        sample=found,
        connection={name: getattr(options, name) for name in CONNECTION},
        seconds=options.seconds,
        traffic=options.traffic,
        workers=options.workers,
        client=client if options.write else None,
        say=_show if sys.stderr.isatty() else lambda _: None,
    ).run()
    if sys.stderr.isatty():
        _show("")
    if options.report:
        from osstorchconnector.cli.bench_runs.page import page  # noqa: PLC0415

        Path(options.report).write_text(page(result), encoding="utf-8")
        report("bench", f"wrote {options.report}")
    if options.json:
        sys.stdout.write(f"{json.dumps(result.document(), indent=1, ensure_ascii=True)}\n")
    else:
        for line in lines(result):
            say(line)
    return 0


def _show(text: str) -> None:
    """Show what is being measured, in the place of what was before."""
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
