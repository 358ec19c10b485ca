"""Names that cannot all be targets of one copy, found before the first file or object is written."""

import os
import stat
from collections.abc import Iterator

from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.fsspec.rows import Entry

Pairs = list[tuple[str, str]]


def check_objects(pairs: Pairs) -> None:
    """Raise if a copy of one object to another would replace what a second copy makes or needs.

    The copies run at the same time, and ``mv`` deletes the sources, so bytes would be lost.

    Raises:
        OssConfigError: Two objects would become one, or an object is a source and the target of another one.
    """
    _check_distinct([(f"oss://{source}", f"oss://{target}") for source, target in pairs])
    sources = {source for source, _ in pairs}
    for source, target in pairs:
        if target != source and target in sources:
            raise OssConfigError(
                f"oss://{source} would replace oss://{target}, which is copied too: copy to another place first"
            )


def check_uploads(pairs: Pairs, *, recursive: bool) -> None:
    """Raise if two local files would become one object, or if reading one that nobody named may never end.

    Raises:
        OssConfigError: They would, or a directory has a pipe or the like.
        OSError: There is no such file.
    """
    modes = {source: os.stat(source).st_mode for source, _ in pairs}  # noqa: PTH116 - names as they are
    for source, mode in modes.items():
        if recursive and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OssConfigError(f"{source} is neither a file nor a directory: leave it out, or put it by itself")
    _check_distinct([(source, f"oss://{target}") for source, target in pairs if not stat.S_ISDIR(modes[source])])


def check_downloads(pairs: Pairs, infos: dict[str, Entry], *, named: bool) -> None:
    """Raise if the names of objects cannot become paths.

    Args:
        pairs: Objects and paths.
        infos: Descriptions of the objects by name, as far as they are known.
        named: The program chose each path.

    Raises:
        OssConfigError: A name has a part that is no name of a file, two objects would become one file, or an object
            would be a file and a directory.
    """
    found = [(source, os.path.normpath(target)) for source, target in pairs if not _is_directory(infos.get(source))]
    for source, _ in found:
        if not named and any(part in {".", ".."} for part in source.split("/")):
            raise OssConfigError(f"oss://{source} cannot become a local path: get that object by itself")
    # Two slashes in a row are one in a path.
    _check_distinct([(f"oss://{source}", target) for source, target in found])
    files = {target: source for source, target in found}
    for target, source in files.items():
        for parent in _parents(target):
            if parent in files:
                raise OssConfigError(
                    f"oss://{files[parent]} is an object, and oss://{source} lies below it: no local path can be both "
                    "a file and a directory; get them by themselves"
                )


def _check_distinct(pairs: Pairs) -> None:
    sources: dict[str, str] = {}
    for source, target in pairs:
        other = sources.setdefault(target, source)
        if other != source:
            raise OssConfigError(f"{other} and {source} would both become {target}: copy them by themselves")


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry["type"] == "directory"


def _parents(path: str) -> Iterator[str]:
    parent = os.path.dirname(path)  # noqa: PTH120 - names as they are, without what a Path makes of them
    while parent and parent != path:
        yield parent
        path, parent = parent, os.path.dirname(parent)  # noqa: PTH120 - as above
