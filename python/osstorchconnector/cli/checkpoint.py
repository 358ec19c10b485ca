"""``osst checkpoint``: the distributed checkpoints below a prefix, and whether they are complete."""

import argparse
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import report, say
from osstorchconnector.exceptions import OssConfigError, OssError

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.dcp.history import Checkpoint

_UNIT: Final = 1024


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "checkpoint",
        help="list, verify and remove distributed checkpoints",
        description="List, verify and remove checkpoints of torch.distributed.checkpoint.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, text in (
        ("ls", "show the checkpoints at and below a URI: complete or not, number of files, size"),
        ("verify", "read the checkpoints at and below a URI, and compare their checksums"),
        ("rm", "delete one checkpoint, its metadata first"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument("uri", help="a checkpoint, or a prefix with checkpoints, like oss://bucket/checkpoints")
        add_arguments(action)
        action.set_defaults(run=_run, action=name)
        if name == "rm":
            action.add_argument(
                "--leftovers",
                action="store_true",
                help="delete no checkpoint, but the leftovers of failed saves at and below the URI; no save may be "
                "running there",
            )
            action.add_argument(
                "--dry-run", action="store_true", help="print what would be deleted, and delete nothing"
            )


def _run(options: argparse.Namespace) -> int:
    # It needs torch, which takes seconds to load.
    from osstorchconnector.dcp.history import checkpoints  # noqa: PLC0415
    from osstorchconnector.dcp.paths import checkpoint_uri  # noqa: PLC0415

    try:
        client = connect(options)
        uri = checkpoint_uri(options.uri)
        found = list(checkpoints(client, uri))
        if options.action == "ls":
            return _list(found)
        if options.action == "verify":
            return _verify(client, found, uri)
        return _remove(client, found, uri, options)
    except (OSError, OssError) as error:
        report("checkpoint", error)
        return 1


def _list(found: "list[Checkpoint]") -> int:
    for checkpoint in found:
        state = "complete  " if checkpoint.complete else "incomplete"
        say(f"{state} {len(checkpoint.files):>6} files {_size(checkpoint.size):>10}  {checkpoint.uri}")
        for problem in checkpoint.problems:
            say(f"    {problem}")
        if checkpoint.leftovers:
            size = _size(sum(checkpoint.sizes[name] for name in checkpoint.leftovers))
            say(f"    {len(checkpoint.leftovers)} objects of {size} are leftovers of other saves")
    return 0


def _verify(client: "OssClient", found: "list[Checkpoint]", uri: str) -> int:
    from osstorchconnector.dcp.history import verify  # noqa: PLC0415 - as above

    if not found:
        raise OssConfigError(f"there is no checkpoint at or below {uri}")
    failed = False
    for checkpoint in found:
        try:
            if not checkpoint.complete:
                raise OssError("; ".join(checkpoint.problems))  # noqa: TRY301 - handled like a file that cannot be read
            checked = verify(client, checkpoint)
        except OssError as error:
            failed = True
            say(f"damaged {checkpoint.uri}: {error}")
        else:
            result = f"{checked} items have their checksums" if checked else "readable; it was saved without checksums"
            say(f"whole   {checkpoint.uri}: {result}")
    return int(failed)


def _remove(client: "OssClient", found: "list[Checkpoint]", uri: str, options: argparse.Namespace) -> int:
    from osstorchconnector.dcp.history import remove, remove_leftovers  # noqa: PLC0415 - as above

    chosen = found if options.leftovers else [checkpoint for checkpoint in found if checkpoint.uri == uri]
    if not chosen and not options.leftovers:
        raise OssConfigError(f"there is no checkpoint at {uri}; `osst checkpoint ls {uri}` shows those below")
    for checkpoint in chosen:
        if options.dry_run:
            names = checkpoint.leftovers
            if not options.leftovers:
                names = names | (checkpoint.files & checkpoint.sizes.keys()) | {*checkpoint.metadata_names}
            deleted = [f"{checkpoint.uri}/{name}" for name in sorted(names)]
        else:
            deleted = (remove_leftovers if options.leftovers else remove)(client, checkpoint)
        for other in deleted:
            say(f"{other}")
    return 0


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _UNIT:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _UNIT
    return f"{size:.1f} TiB"
