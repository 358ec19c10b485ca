"""Finding names below directories: walking, patterns, and everything there is."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import Any, Final, TypeVar

from fsspec.utils import stringify_path

from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssNotFoundError, OssPermissionError
from osstorchconnector.fsspec.instances import Notes
from osstorchconnector.fsspec.listing import REQUESTS, Listing, described
from osstorchconnector.fsspec.rows import Entry, Row, descriptions, directory, names, sizes, total_size

T = TypeVar("T")

# What the names of a level begin with, and whether one of them matches.
Level = tuple[str, Callable[[str], object]]

#: What makes a pattern of a name.
MAGIC: Final = re.compile(r"[*?\[]")


@guards_methods
class Finding(Listing):
    """The part of the file system that lists more than one directory."""

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,  # noqa: FBT001, FBT002 - the interface's
        on_error: str | Callable[[OSError], object] = "omit",
        detail: bool = False,  # noqa: FBT001, FBT002 - the interface's
        **options: Any,  # noqa: ANN401 - those of `ls`
    ) -> Iterator[tuple[str, Any, Any]]:
        """Return an iterator of directories with the names below them, as ``os.walk`` does.

        Several directories are listed at the same time; those that the caller removes are not listed.

        Args:
            path: The directory.
            maxdepth: Most levels.
            topdown: A directory comes before those below it.
            on_error: ``"omit"`` leaves out directories that are missing, and raises other errors; ``"raise"`` raises
                all; or a function that takes each error.
            detail: The names come with their descriptions.
            options: Those of :meth:`ls`.

        Raises:
            OssError: A directory cannot be listed.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        name = self._strip_protocol(path)
        if name:
            # Here and not in the iterator, whose frames would show a URL that is a secret.
            self._split(name)
        return self._walk(name, None, maxdepth, topdown, _handler(on_error), detail, options)

    def _walk(
        self,
        name: str,
        entries: "list[Entry] | OSError | None",
        maxdepth: int | None,
        topdown: bool,  # noqa: FBT001 - as above
        handler: Callable[[OSError], object],
        detail: bool,  # noqa: FBT001 - as above
        options: dict[str, Any],
    ) -> Iterator[tuple[str, Any, Any]]:
        if entries is None:
            entries = self._tried(options, name)
        if isinstance(entries, OSError):
            handler(entries)
            return
        directories: Any = {_base(one["name"]): one for one in entries if one["type"] == "directory"}
        # If it is an object, its listing is the object itself.
        files: Any = {one["name"][len(name) + 1 :]: one for one in entries if one["type"] == "file"}
        if not detail:
            directories, files = list(directories), list(files)
        if topdown:
            yield name, directories, files
        if maxdepth is None or maxdepth > 1:
            deeper = None if maxdepth is None else maxdepth - 1
            names = [f"{name}/{base}" if name else base for base in directories]
            for first in range(0, len(names), REQUESTS):
                some = names[first : first + REQUESTS]
                for one, below in zip(some, self._at_once(partial(self._tried, options), some), strict=True):
                    yield from self._walk(one, below, deeper, topdown, handler, detail, options)
        if not topdown:
            yield name, directories, files

    def _tried(self, options: dict[str, Any], name: str) -> "list[Entry] | OSError":
        """Return what lies directly below a directory, or why it cannot be listed."""
        try:
            return self.ls(name, detail=True, **options)
        except OSError as error:
            return error

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,  # noqa: FBT001, FBT002 - the interface's
        detail: bool = False,  # noqa: FBT001, FBT002 - the interface's
        prefix: str = "",
        parts: list[str] | None = None,
        **_options: Any,  # noqa: ANN401 - the interface's
    ) -> Any:  # noqa: ANN401 - a list, or a dict
        """Return all files below a directory, sorted by name.

        With `maxdepth` it lists level by level, and a directory costs one request however much lies below it. Otherwise
        it lists everything, a thousand files a request.

        Args:
            path: The directory.
            maxdepth: Most levels.
            withdirs: Return directories too.
            detail: Return the descriptions by name.
            prefix: Only names that begin with this directly below the directory.
            parts: With `maxdepth`: the pattern of the names of each level. No other directory is listed.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        name = self._strip_protocol(path)
        if name and maxdepth is None and not (parts or withdirs or detail or self._notes.is_kept):
            return list(chain.from_iterable(self._of_pages(name, prefix, names)))
        levels: list[Level] = [_level(part) for part in parts] if parts else [(prefix, _any)]
        chosen, directories = self._found(name, maxdepth, levels)
        both = chosen.keys() & directories
        if withdirs:
            found = _with_directories(chosen, directories)
            chosen = {one: found[one] for one in sorted(found)}
        self._notes.add(chosen, both)
        return chosen if detail else list(chosen)

    def _found(self, name: str, maxdepth: int | None, levels: list[Level]) -> tuple[dict[str, Entry], set[str]]:
        """Return the descriptions of files by name, in order, and the names of directories. A name may be both."""
        files: dict[str, Entry] = {}
        directories: set[str] = set()
        is_all = len(levels) == 1 and levels[0] == ("", _any)
        try:
            if maxdepth is not None or not name:
                for entries in self._levels(name, maxdepth, levels):
                    files |= {one["name"]: one for one in entries if one["type"] == "file"}
                    directories.update(one["name"] for one in entries if one["type"] == "directory")
                files = {one: files[one] for one in sorted(files)}
            else:
                bucket, key = self._split(name)
                seen: set[str] = set()
                for rows in self._below(name, levels[0][0]):
                    files |= {one["name"]: one for one in descriptions(bucket, rows)}
                    above = _new_parents(rows, f"{key}/" if key else "", seen)
                    directories.update(f"{bucket}/{one}" for one in above)
        except OssNotFoundError:
            # There is no such bucket: as with a directory, there is nothing in it.
            files.clear()
            directories.clear()
        if name and (files or directories):
            directories.add(name)
        elif is_all and name:
            with suppress(OssNotFoundError):
                itself = self.info(name)
                if itself["type"] == "file":
                    files[name] = itself
                else:
                    directories.add(name)
        return files, directories

    def _of_pages(self, name: str, prefix: str, of_page: Callable[[str, list[Row]], T]) -> list[T]:
        """Return what is made of each page of the files below a directory, or of the object of that name."""
        bucket, key = self._split(name)
        made: list[T] = []
        is_empty = True
        try:
            for rows in self._below(name, prefix):
                made.append(of_page(bucket, rows))
                if is_empty:
                    is_marks = all(row[0][-1] == "/" for row in rows)
                    is_empty = is_marks and not any(_new_parents(rows, f"{key}/" if key else "", set()))
        except OssNotFoundError:
            # There is no such bucket: as with a directory, there is nothing in it.
            return []
        if is_empty and key and not prefix:
            with suppress(OssNotFoundError):
                itself = self.info(name)
                if itself["type"] == "file":
                    return [of_page(bucket, [(key, itself["size"])])]
        return made

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:  # noqa: ANN401 - a list, or a dict
        """Return the names that match a pattern.

        Only names are listed that begin with what stands before the first ``*``, ``?`` or ``[`` of their level, and
        only below directories that match. With ``**``, everything is listed that begins with what stands before the
        first of these characters.

        Args:
            path: The pattern.
            maxdepth: Most levels that ``**`` stands for.
            options: ``detail=True``: the descriptions by name. ``withdirs=False``: no directories.
        """
        parts = self._strip_protocol(path).split("/")
        first = next((at for at, part in enumerate(parts) if MAGIC.search(part)), None)
        if first is not None and "**" not in path:
            options["parts"] = parts[first:]
        elif first:
            options["prefix"] = _start(parts[first])
        return super().glob(path, maxdepth=maxdepth, **options)

    def du(
        self,
        path: str,
        total: bool = True,  # noqa: FBT001, FBT002 - the interface's
        maxdepth: int | None = None,
        withdirs: bool = False,  # noqa: FBT001, FBT002 - the interface's
        **options: Any,  # noqa: ANN401 - the interface's
    ) -> Any:  # noqa: ANN401 - a number, or a dict
        """Return the size of all files below a directory, or the size of each."""
        name = self._strip_protocol(path)
        if name and maxdepth is None and not options and (total or not withdirs):
            if total:
                return sum(self._of_pages(name, "", total_size))
            return dict(chain.from_iterable(page.items() for page in self._of_pages(name, "", sizes)))
        found = self.find(name, maxdepth=maxdepth, withdirs=withdirs, detail=True, **options)
        if total:
            return sum([entry["size"] for entry in found.values()])
        return {one: entry["size"] for one, entry in found.items()}

    def expand_path(
        self,
        path: Any,  # noqa: ANN401 - a path, or a list of them
        recursive: bool = False,  # noqa: FBT001, FBT002 - the interface's
        maxdepth: int | None = None,
        assume_literal: bool = False,  # noqa: FBT001, FBT002 - the interface's
        **options: Any,  # noqa: ANN401 - those of `find`
    ) -> list[str]:
        """Return what patterns match, and what lies below directories, with several listings at the same time.

        Args:
            path: A path or a pattern, or a list of these.
            recursive: Also return what lies below directories. If there is an object of a directory's name, it is
                returned too, unless the path ends with a slash.
            maxdepth: Most levels.
            assume_literal: There are no patterns.
            options: Those of :meth:`find`.

        Raises:
            OssNotFoundError: Nothing matches, or there is no such path.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        given = _listed(path)
        names: set[str] = set()
        tops: set[str] = set()
        with self._noting() as noted:
            for name in self._strip_protocol(given):
                if not assume_literal and MAGIC.search(name):
                    matches = self.glob(name, maxdepth=maxdepth, detail=True, **options)
                    names.update(matches)
                    if recursive and maxdepth != 1:
                        # What matched is the first level.
                        matched = [one for one in matches if matches[one]["type"] == "directory" or one in noted.both]
                        self._add_trees(names, matched, None if maxdepth is None else maxdepth - 1)
                elif recursive:
                    tops.add(name)
                else:
                    names.add(name)
            self._add_trees(names, sorted(tops), maxdepth)
            self._add_objects(names, tops - self._only_directories(path))
        if not names:
            raise OssNotFoundError(f"there is no object and no directory {' or '.join(map(str, given))}")
        return sorted(names)

    def _only_directories(self, path: Any) -> set[str]:  # noqa: ANN401 - a path, or a list of them
        """Return the names of paths that end with a slash: they mean no object of the same name."""
        return {self._strip_protocol(one) for one in _listed(path) if stringify_path(one).endswith("/")}

    def _add_trees(self, names: set[str], tops: list[str], maxdepth: int | None) -> None:
        """Add those paths that exist, and what lies below them."""
        if maxdepth is None:
            tops = outermost(tops)
        for files, directories in self._at_once(lambda top: self._found(top, maxdepth, [("", _any)]), tops):
            found = _with_directories(files, directories)
            names.update(found)
            self._notes.add(found, files.keys() & directories)

    def _add_objects(self, names: set[str], tops: set[str]) -> None:
        """Add to directories the objects that have their names."""

        def found(top: str) -> Entry | None:
            try:
                return described(top, self.client.stat(self._uri(top)))
            except (OssNotFoundError, OssPermissionError):
                # A program may be allowed to read what is below a directory, and nothing else.
                return None

        unknown = [top for top in sorted(tops & names) if "/" in top and self._notes.found[top]["type"] == "directory"]
        files = {one["name"]: one for one in self._at_once(found, unknown) if one is not None}
        self._notes.add(files, set(files))

    @contextmanager
    def _noting(self) -> Iterator[Notes]:
        """Keep the descriptions that :meth:`find` returns in this thread: fsspec passes on names only."""
        notes = self._notes
        if notes.is_kept:
            yield notes
            return
        notes.begin()
        try:
            yield notes
        finally:
            notes.end()

    def _levels(self, name: str, maxdepth: int | None, levels: list[Level]) -> Iterator[list[Entry]]:
        """Yield what lies below a directory, level by level. Only directories that match are listed."""
        above, depth = [name], 0
        while above and (maxdepth is None or depth < maxdepth):
            start, matches = levels[depth] if depth < len(levels) else ("", _any)
            below = self._at_once(partial(self._children, prefix=start), above)
            yield from below
            above = [
                entry["name"]
                for entries in below
                for entry in entries
                if entry["type"] == "directory" and matches(_base(entry["name"]))
            ]
            depth += 1

    def _below(self, name: str, prefix: str) -> Iterator[list[Row]]:
        """Yield the pages of what lies below a directory."""
        bucket, key = self._split(name)
        pages = self.client._native_client.list_pages(  # noqa: SLF001 - the package's own
            bucket, (f"{key}/" if key else "") + prefix, parallel=self.client.config.fast_list
        )
        return (rows for rows, _ in pages)


def _new_parents(rows: list[Row], start: str, seen: set[str]) -> Iterator[str]:
    """Yield the directories that the keys of a page are in, down to a prefix, that were not seen yet."""
    for lowest in {row[0].rpartition("/")[0] for row in rows}:
        parent = lowest
        while len(parent) >= len(start) and parent not in seen:
            seen.add(parent)
            # A part without a name is no directory that a path can show.
            if parent and not parent.endswith("/"):
                yield parent
            parent = parent.rpartition("/")[0]


def _with_directories(files: dict[str, Entry], directories: set[str]) -> dict[str, Entry]:
    """Return the descriptions of both. The object of a name comes before the directory."""
    return files | {one: directory(one) for one in directories if one not in files}


def _any(_name: str) -> bool:
    return True


def _start(part: str) -> str:
    """Return what stands before the first magic character."""
    return MAGIC.split(part, maxsplit=1)[0]


def _level(part: str) -> Level:
    """Return what names that match a part of a pattern begin with, and a test that all of them pass."""
    if not MAGIC.search(part):
        return part, part.__eq__
    # fsspec and fnmatch differ about odd sets of characters. What is listed too much is left out later.
    return _start(part), _any if "[" in part else re.compile(fnmatch.translate(part)).match


def outermost(names: Iterable[str]) -> list[str]:
    """Return the directories that lie below none of the others."""
    kept: list[str] = []
    for name in sorted(names, key=lambda name: f"{name}/"):
        if not kept or not name.startswith(f"{kept[-1]}/"):
            kept.append(name)
    return kept


def _listed(path: Any) -> list[Any]:  # noqa: ANN401 - a path, or a list of them
    return list(path) if isinstance(path, (list, tuple, set)) else [path]


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _handler(on_error: str | Callable[[OSError], object]) -> Callable[[OSError], object]:
    return on_error if callable(on_error) else partial(_raise, may_be_missing=on_error == "omit")


def _raise(error: OSError, *, may_be_missing: bool) -> None:
    if not (may_be_missing and isinstance(error, FileNotFoundError)):
        raise error
