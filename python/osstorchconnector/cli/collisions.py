"""Targets that a copy of several must not write: those of its other copies, and its sources."""

from osstorchconnector.cli.copying import Item
from osstorchconnector.cli.globs import has_magic, literal_start
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.transfer import is_remote


class Collisions:
    """Finds items that would overwrite a copy or a source of the same command; ``mv`` would then lose one of them."""

    def __init__(self, sources: list[str], directory: str, *, recursive: bool, glob: bool) -> None:
        """Prepare.

        Args:
            sources: The arguments of the command.
            directory: Local directory or prefix that they are copied to.
            recursive: Whether everything below them is copied.
            glob: Whether a source may be a pattern.
        """
        self._sources, self._directory = sources, directory.removesuffix("/")
        remote = filter(is_remote, sources) if is_remote(directory) else ()
        trees = (around(source, glob=glob) for source in remote if recursive or "**" in source)
        self._trees = tuple(f"{tree}/" for tree in trees)
        self._named = frozenset(sources) if is_remote(directory) else frozenset()
        # Sources by path. Below one directory no two paths are equal, so that millions of them need not be held.
        self._copied: dict[str, str] = {}

    def check(self, item: Item) -> None:
        """Remember the path of an item.

        Raises:
            OssConfigError: The item would overwrite something of the same command.
        """
        if item.size == 0 and (not item.path or item.path.endswith("/")):
            # A directory marker.
            return
        target = f"{self._directory}/{item.path}"
        if item.source == target:
            # The copy itself says so.
            return
        if target.startswith(self._trees) or target in self._named:
            raise OssConfigError(f"its copy would overwrite {target}, which is a source too: give another target")
        other = self._copied.get(item.path)
        if other is not None:
            raise OssConfigError(f"its copy would overwrite that of {other} at {target}: copy them one by one")
        if len(self._sources) > 1 or item.source == self._sources[0]:
            self._copied[item.path] = item.source


def around(source: str, *, glob: bool) -> str:
    """Return the directory that holds everything that a source names recursively, without a slash at its end."""
    if glob and has_magic(split_prefix(source)[1]):
        return literal_start(source).rpartition("/")[0]
    return source.removesuffix("/")
