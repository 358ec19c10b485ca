"""``osst checkpoint``: the checkpoints below a prefix, of both kinds, and whether they are complete."""

import argparse
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import report, say
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError, OssError, OssNotFoundError

if TYPE_CHECKING:
    from osstorchconnector.checkpoint.history import Candidate
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.dcp.history import Checkpoint

_UNIT: Final = 1024


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "checkpoint",
        help="list, verify and remove checkpoints",
        description="List, verify and remove checkpoints: those of torch.distributed.checkpoint, and objects that "
        "torch.save wrote, which OssCheckpoint.list shows.",
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
    from osstorchconnector.dcp.paths import checkpoint_uri  # noqa: PLC0415

    try:
        client = connect(options)
        uri = checkpoint_uri(options.uri)
        found, objects = _find(client, uri)
        if options.action == "ls":
            if not found and not objects:
                raise OssConfigError(_no_checkpoint(client, uri))
            return _list(client, found, objects)
        if options.action == "verify":
            return _verify(client, found, objects, uri)
        return _remove(client, found, objects, uri, options)
    except (OSError, OssError) as error:
        report("checkpoint", error)
        return 1


def _find(client: "OssClient", uri: str) -> "tuple[list[Checkpoint], list[Candidate]]":
    """Return the distributed checkpoints at and below a URI, and those of one object each.

    If there is none, the URI may be the beginning of their names.
    """
    # Both need torch, which takes seconds to load.
    from osstorchconnector.checkpoint.history import candidates, named  # noqa: PLC0415
    from osstorchconnector.dcp.history import checkpoints  # noqa: PLC0415

    found = list(checkpoints(client, uri))
    objects = [*named(client, uri), *candidates(client, f"{uri}/")]
    if not found and not objects:
        objects = candidates(client, uri)
        for candidate in objects:
            if candidate.distributed:
                found += checkpoints(client, candidate.uri)
    # A distributed checkpoint may consist of safetensors files.
    parts = {f"{checkpoint.uri}/{name}" for checkpoint in found for name in checkpoint.sizes}
    return found, [candidate for candidate in objects if not candidate.distributed and candidate.uri not in parts]


def _list(client: "OssClient", found: "list[Checkpoint]", objects: "list[Candidate]") -> int:
    from osstorchconnector.checkpoint.history import Condition, condition_of  # noqa: PLC0415 - as above

    for checkpoint in found:
        state = "complete  " if checkpoint.complete else "incomplete"
        say(f"{state} {len(checkpoint.files):>6} files {_size(checkpoint.size):>10}  {checkpoint.uri}")
        for problem in checkpoint.problems:
            say(f"    {problem}")
        if checkpoint.leftovers:
            size = _size(sum(checkpoint.sizes[name] for name in checkpoint.leftovers))
            say(f"    {len(checkpoint.leftovers)} objects of {size} are leftovers of other saves")
    states = {Condition.WHOLE: "complete  ", Condition.DAMAGED: "incomplete", Condition.FOREIGN: "unknown   "}
    for candidate in objects:
        try:
            condition = condition_of(client, candidate)
        except OssNotFoundError:
            continue
        say(f"{states[condition]} {1:>6} file  {_size(candidate.size):>10}  {candidate.uri}")
        if condition is Condition.FOREIGN:
            say("    its first bytes are not those of a checkpoint")
    return 0


def _verify(client: "OssClient", found: "list[Checkpoint]", objects: "list[Candidate]", uri: str) -> int:
    if not found and not objects:
        raise OssConfigError(_no_checkpoint(client, uri))
    failed = False
    every: list[Checkpoint | Candidate] = [*found, *objects]
    for one in every:
        try:
            say(f"whole   {one.uri}: {_checked(client, one)}")
        except OssError as error:
            failed = True
            say(f"damaged {one.uri}: {error}")
    return int(failed)


def _checked(client: "OssClient", one: "Checkpoint | Candidate") -> str:
    """Read a checkpoint; return what was compared.

    Raises:
        OssError: It is damaged, or cannot be read.
    """
    from osstorchconnector.checkpoint.history import Candidate, Condition, condition_of, read_through  # noqa: PLC0415
    from osstorchconnector.dcp.history import verify  # noqa: PLC0415 - as above

    if isinstance(one, Candidate):
        if condition_of(client, one) is Condition.DAMAGED:
            raise OssError("its beginning is that of a checkpoint, but its end is missing")
        read_through(client, one)
        stored = client.head(one.uri).crc64 is not None
        return "it has the checksum that OSS stores" if stored else "readable; OSS stores no checksum of it"
    if not one.complete:
        raise OssError("; ".join(one.problems))
    checked = verify(client, one)
    return f"{checked} items have their checksums" if checked else "readable; it was saved without checksums"


def _remove(
    client: "OssClient",
    found: "list[Checkpoint]",
    objects: "list[Candidate]",
    uri: str,
    options: argparse.Namespace,
) -> int:
    from osstorchconnector.dcp.history import remove, remove_leftovers  # noqa: PLC0415 - as above

    chosen = found if options.leftovers else [checkpoint for checkpoint in found if checkpoint.uri == uri]
    single = [candidate for candidate in objects if candidate.uri == uri and not options.leftovers]
    if not chosen and not single and not options.leftovers:
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
    for candidate in single:
        if not options.dry_run:
            client.delete(candidate.uri)
        say(candidate.uri)
    return 0


def _no_checkpoint(client: "OssClient", uri: str) -> str:
    bucket, prefix = split_prefix(uri)
    said = f"there is no checkpoint at or below {uri}"
    if next(client.list(uri), None) is None:
        said = f"{said}: {nothing_below(client, bucket, prefix)}"
    return said


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _UNIT:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _UNIT
    return f"{size:.1f} TiB"
