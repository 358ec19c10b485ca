"""``osst checkpoint``: the checkpoints below a prefix, of all kinds, and whether they are complete."""

import argparse
from typing import TYPE_CHECKING, Final, NamedTuple

from osstorchconnector.cli.checkpoint_convert import add_action
from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import say
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError, OssError, OssNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from osstorchconnector.checkpoint.folder_list import StoredFolder
    from osstorchconnector.checkpoint.history import Candidate
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.dcp.history import Checkpoint

_UNIT: Final = 1024


class _Found(NamedTuple):
    """The checkpoints at and below a URI.

    Attributes:
        distributed: Those of ``torch.distributed.checkpoint``.
        folders: Those of the integrations with training frameworks.
        objects: Those of one object each.
    """

    distributed: "list[Checkpoint]"
    folders: "list[StoredFolder]"
    objects: "list[Candidate]"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "checkpoint",
        help="list, verify, convert and remove checkpoints",
        description="List, verify, convert and remove checkpoints: those of torch.distributed.checkpoint, folders that "
        "OssTrainerCallback and OssAcceleratorState wrote, and objects that torch.save wrote, which OssCheckpoint.list "
        "shows.",
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
    add_action(actions)


def _run(options: argparse.Namespace) -> int:
    # It needs torch, which takes seconds to load.
    from osstorchconnector.dcp.paths import checkpoint_uri  # noqa: PLC0415

    client = connect(options)
    uri = checkpoint_uri(options.uri)
    found = _find(client, uri)
    if options.action == "rm":
        return _remove(client, found, uri, options)
    if not any(found):
        raise OssConfigError(_no_checkpoint(client, uri))
    return _list(client, found) if options.action == "ls" else _verify(client, found)


def _find(client: "OssClient", uri: str) -> _Found:
    """Return the checkpoints at and below a URI. If there is none, the URI may be the beginning of their names."""
    # They need torch, which takes seconds to load.
    from osstorchconnector.checkpoint.folder_list import stored_folders  # noqa: PLC0415
    from osstorchconnector.checkpoint.history import candidates, named  # noqa: PLC0415
    from osstorchconnector.dcp.history import checkpoints  # noqa: PLC0415

    distributed = list(checkpoints(client, uri))
    folders = stored_folders(client, f"{uri}/")
    objects = [*named(client, uri), *candidates(client, f"{uri}/")]
    if not distributed and not folders and not objects:
        folders = stored_folders(client, uri)
        objects = candidates(client, uri)
        for candidate in objects:
            if candidate.distributed:
                distributed += checkpoints(client, candidate.uri)
    # A folder may have distributed checkpoints inside, and these may consist of safetensors files.
    inside = tuple(f"{folder.uri}/" for folder in folders)
    distributed = [checkpoint for checkpoint in distributed if not f"{checkpoint.uri}/".startswith(inside)]
    parts = {f"{checkpoint.uri}/{name}" for checkpoint in distributed for name in checkpoint.sizes}
    objects = [
        candidate
        for candidate in objects
        if not candidate.distributed and candidate.uri not in parts and not candidate.uri.startswith(inside)
    ]
    return _Found(distributed, folders, objects)


def _list(client: "OssClient", found: _Found) -> int:
    from osstorchconnector.checkpoint.history import Condition, condition_of  # noqa: PLC0415 - as above

    for checkpoint in found.distributed:
        state = "complete  " if checkpoint.complete else "incomplete"
        say(f"{state} {len(checkpoint.files):>6} files {_size(checkpoint.size):>10}  {checkpoint.uri}")
        _say_details(checkpoint.problems, [checkpoint.sizes[name] for name in checkpoint.leftovers])
    for folder in found.folders:
        files = folder.files or ()
        state = "incomplete" if folder.problems else "complete  "
        size = _size(sum(file.size for file in files))
        say(f"{state} {len(files):>6} files {size:>10}  {folder.uri}")
        _say_details(folder.problems, [folder.sizes[name] for name in folder.leftovers])
    states = {Condition.WHOLE: "complete  ", Condition.DAMAGED: "incomplete", Condition.FOREIGN: "unknown   "}
    for candidate in found.objects:
        try:
            condition = condition_of(client, candidate)
        except OssNotFoundError:
            continue
        say(f"{states[condition]} {1:>6} file  {_size(candidate.size):>10}  {candidate.uri}")
        if condition is Condition.FOREIGN:
            say("    its first bytes are not those of a checkpoint")
    return 0


def _say_details(problems: "Iterable[str]", leftovers: "list[int]") -> None:
    for problem in problems:
        say(f"    {problem}")
    if leftovers:
        say(f"    {len(leftovers)} objects of {_size(sum(leftovers))} are leftovers of other saves")


def _verify(client: "OssClient", found: _Found) -> int:
    failed = False
    every: list[Checkpoint | StoredFolder | Candidate] = [*found.distributed, *found.folders, *found.objects]
    for one in every:
        try:
            say(f"whole   {one.uri}: {_checked(client, one)}")
        except OssError as error:
            failed = True
            say(f"damaged {one.uri}: {error}")
    return int(failed)


def _checked(client: "OssClient", one: "Checkpoint | StoredFolder | Candidate") -> str:
    """Read a checkpoint; return what was compared.

    Raises:
        OssError: It is damaged, or cannot be read.
    """
    from osstorchconnector.checkpoint import folder_list  # noqa: PLC0415 - as above
    from osstorchconnector.checkpoint.history import Candidate, Condition, condition_of, read_through  # noqa: PLC0415
    from osstorchconnector.dcp.history import verify  # noqa: PLC0415

    if isinstance(one, folder_list.StoredFolder):
        return f"{folder_list.verify(client, one)} files have their checksums"
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


def _remove(client: "OssClient", found: _Found, uri: str, options: argparse.Namespace) -> int:
    if options.leftovers:
        distributed, folders, objects = found.distributed, found.folders, []
    else:
        distributed = [checkpoint for checkpoint in found.distributed if checkpoint.uri == uri]
        folders = [folder for folder in found.folders if folder.uri == uri]
        objects = [candidate for candidate in found.objects if candidate.uri == uri]
        if not distributed and not folders and not objects:
            raise OssConfigError(f"there is no checkpoint at {uri}; `osst checkpoint ls {uri}` shows those below")
    for checkpoint in distributed:
        for deleted in _removed(client, checkpoint, options):
            say(deleted)
    for folder in folders:
        for deleted in _removed_folder(client, folder, options):
            say(deleted)
    for candidate in objects:
        if not options.dry_run:
            client.delete(candidate.uri)
        say(candidate.uri)
    return 0


def _removed(client: "OssClient", checkpoint: "Checkpoint", options: argparse.Namespace) -> "list[str]":
    """Delete a distributed checkpoint or its leftovers, and return the URIs."""
    from osstorchconnector.dcp.history import remove, remove_leftovers  # noqa: PLC0415 - as above

    if not options.dry_run:
        return list((remove_leftovers if options.leftovers else remove)(client, checkpoint))
    names = checkpoint.leftovers
    if not options.leftovers:
        names = names | (checkpoint.files & checkpoint.sizes.keys()) | {*checkpoint.metadata_names}
    return [f"{checkpoint.uri}/{name}" for name in sorted(names)]


def _removed_folder(client: "OssClient", folder: "StoredFolder", options: argparse.Namespace) -> "list[str]":
    """Delete a folder, its list first, or its leftovers, and return the URIs."""
    from osstorchconnector.checkpoint.folder_list import LIST  # noqa: PLC0415 - as above

    names = folder.leftovers if options.leftovers else [LIST, *sorted(folder.sizes)]
    uris = [f"{folder.uri}/{name}" for name in names]
    if not options.dry_run and uris:
        # The list is the first: without it the folder is no checkpoint.
        client.delete(uris[0])
        client.delete_many(uris[1:])
    return uris


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
