"""``osst checkpoint convert``: a checkpoint in another form."""

import argparse
import signal
from typing import Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import interrupt, report
from osstorchconnector.cli.output import emit, human
from osstorchconnector.cli.progress import Progress, add_progress, wants_progress
from osstorchconnector.connection.uri import check_local
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.transfer import is_remote

# As in osstorchconnector.conversion.convert, whose import takes seconds.
_FORMS: Final = ("hf", "safetensors", "torch", "dcp")


def add_action(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action to ``osst checkpoint``."""
    parser = actions.add_parser(
        "convert",
        help="write a checkpoint in another form, without a whole model in memory",
        description="Write a checkpoint in another form, tensor by tensor, without a whole model in memory. SOURCE is "
        "a distributed checkpoint, a directory of safetensors files, one of these files, or a file of torch.save. "
        "SOURCE and TARGET are each in a bucket or on a disk. There must be nothing at TARGET.",
    )
    parser.add_argument("source", metavar="SOURCE", help="oss://bucket/key, or a path")
    parser.add_argument("target", metavar="TARGET", help="oss://bucket/key, or a path")
    parser.add_argument(
        "--to",
        choices=_FORMS,
        help="hf: a directory of safetensors files with an index; safetensors: one such file; torch: a file of "
        "torch.save; dcp: a distributed checkpoint (default: what the name of TARGET ends with says, or else hf from "
        "dcp, and dcp from all others)",
    )
    parser.add_argument(
        "--keys", action="append", metavar="PATTERN", help="take only names that match one, such as 'model.*'"
    )
    parser.add_argument(
        "--strip", default="", metavar="PREFIX", help="leave this out of names, such as 'model.', and names without it"
    )
    parser.add_argument(
        "--max-shard-size", default="5GB", metavar="SIZE", help="most bytes of tensors in a file of hf (default: 5GB)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object that says what was written")
    add_progress(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    for place in (options.source, options.target):
        try:
            if not is_remote(place):
                check_local(place)
        except OssConfigError as error:
            options.parser.error(str(error))
    # The end of a job then removes partial files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    # They need torch, which takes seconds to load.
    from osstorchconnector.conversion.convert import convert_checkpoint  # noqa: PLC0415

    client = connect(options) if is_remote(options.source) or is_remote(options.target) else None
    with Progress(f"{options.source} to {options.target}", None, shown=wants_progress(options)) as progress:
        converted = convert_checkpoint(
            options.source,
            options.target,
            client,
            form=options.to,
            keys=options.keys,
            strip=options.strip,
            max_shard_size=options.max_shard_size,
            progress=lambda count, _total: progress.advance(count),
        )
    if options.json:
        document = {"source": options.source, "target": options.target, "form": converted.form}
        emit(document | {"tensors": converted.tensors, "objects": converted.objects, "bytes": converted.nbytes})
    else:
        others = f" and {converted.objects} other entries" if converted.objects else ""
        size = human(converted.nbytes)
        report(
            "checkpoint", f"{converted.tensors} tensors of {size}{others} are at {options.target} ({converted.form})"
        )
    return 0
