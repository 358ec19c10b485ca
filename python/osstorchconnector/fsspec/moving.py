"""Copying, moving, deleting, and the way from and to local files."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike

from osstorchconnector._native import ObjectTable
from osstorchconnector.connection.uri import split_object
from osstorchconnector.connection.write_options import WriteOptions, check_options
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssExistsError, OssNotFoundError
from osstorchconnector.files.writing import writing
from osstorchconnector.fsspec.collisions import Pairs, check_downloads, check_objects, check_uploads
from osstorchconnector.fsspec.finding import MAGIC, outermost
from osstorchconnector.fsspec.reading import Reading
from osstorchconnector.fsspec.rows import Entry

# The size of several requests, so that one read or write keeps them all in flight.
_CHUNK: Final = 32 << 20
# What is read at once from pipes, and from files whose size is only known at their end, such as those of /proc.
_SMALLEST_CHUNK: Final = 64 << 10
# Files up to this size go several at a time; a larger one uses all connections that help.
_SMALL: Final = 8 << 20
# Uploads and copies of small objects in flight.
_AT_ONCE: Final = 16


@guards_methods
class Moving(Reading):
    """The part of the file system that copies, moves and deletes."""

    def cp_file(
        self,
        path1: str,
        path2: str,
        pairs: Pairs | None = None,
        *,
        write_options: WriteOptions | None = None,
        **_options: Any,  # noqa: ANN401 - the interface's
    ) -> None:
        """Copy an object inside the service, with what `write_options` says otherwise."""
        if pairs is not None:
            pairs.append((path1, path2))
            return
        self.client.copy(self._uri(path1), self._uri(path2), options=write_options)
        self.invalidate_cache(self._parent(path2))

    def copy(
        self,
        path1: Any,  # noqa: ANN401 - a path, or a list of them
        path2: Any,  # noqa: ANN401 - as above
        recursive: bool = False,  # noqa: FBT001, FBT002 - the interface's
        maxdepth: int | None = None,
        on_error: str | None = None,
        *,
        write_options: WriteOptions | None = None,
        **_options: Any,  # noqa: ANN401 - the interface's
    ) -> None:
        """Copy objects inside the service, several at a time. Their bytes do not come here.

        With `recursive`, the objects that mark directories come along, without `write_options`.

        Args:
            path1: An object, a pattern, a directory with `recursive`, or a list of these.
            path2: Where to; with a slash at its end, a directory to copy into.
            recursive: Copy what lies below directories.
            maxdepth: Most levels.
            on_error: ``"ignore"`` goes on if an object is missing; it is the default if `recursive`.
            write_options: What is stored otherwise than at the source, as for :meth:`OssClient.copy`.

        Raises:
            OssConfigError: Two objects would become one, or an object would be replaced before it is copied.
            OssNotFoundError: An object does not exist.
        """
        ignores = (on_error or ("ignore" if recursive else "raise")) == "ignore"
        _, directories = self._copied(
            path1, path2, write_options, recursive=recursive, maxdepth=maxdepth, ignores=ignores
        )
        if recursive:
            self._at_once(self._copy_marker, directories)  # type: ignore[arg-type]

    def mv(
        self,
        path1: Any,  # noqa: ANN401 - a path, or a list of them
        path2: Any,  # noqa: ANN401 - as above
        recursive: bool = False,  # noqa: FBT001, FBT002 - the interface's
        maxdepth: int | None = None,
        *,
        write_options: WriteOptions | None = None,
        **_options: Any,  # noqa: ANN401 - the interface's
    ) -> None:
        """Copy objects inside the service, then delete what was copied: OSS has no other way to move.

        If a copy fails, nothing is deleted. The arguments are those of :meth:`copy`.

        Raises:
            IsADirectoryError: It is a directory, and `recursive` is false.
            OssConfigError: Two objects would become one, or an object would be replaced before it is moved.
            OssNotFoundError: There is neither an object nor a directory.
        """
        if path1 == path2:
            return
        if not recursive and isinstance(path1, str) and not MAGIC.search(path1):
            self._check_file(self._strip_protocol(path1), "move")
        pairs, directories = self._copied(
            path1, path2, write_options, recursive=recursive, maxdepth=maxdepth, ignores=False
        )
        self._delete([source for source, target in pairs if source != target])
        if recursive:
            self._at_once(self._move_marker, directories)  # type: ignore[arg-type]

    def _move_marker(self, pair: tuple[str, str]) -> None:
        """Move the object that marks a directory, if there is one."""
        if self._copy_marker(pair):
            self.client.delete(f"oss://{pair[0]}/")
            self._forget_below(pair[0])

    def _copy_marker(self, pair: tuple[str, str]) -> bool:
        """Copy the object that marks a directory, if there is one that may be copied, and return whether it was.

        Some programs write bytes to it. One at the target stays if the configuration protects objects.
        """
        source, target = (f"oss://{name}/" for name in pair)
        if source == target or not all(self._split(name)[1] for name in pair):
            return False
        try:
            self.client.copy(source, target)
        except (OssNotFoundError, OssExistsError):
            return False
        self.invalidate_cache(self._parent(pair[1]))
        return True

    def _copied(
        self,
        path1: Any,  # noqa: ANN401 - as `copy`
        path2: Any,  # noqa: ANN401 - as `copy`
        write_options: WriteOptions | None,
        *,
        recursive: bool,
        maxdepth: int | None,
        ignores: bool,
    ) -> tuple[Pairs, Pairs]:
        """Copy, and return what was copied, and the directories that it was in; each with its target."""
        check_options("write_options", write_options)
        pairs: Pairs = []
        with self._noting() as noted:
            infos, both = noted.found, noted.both
            super().copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise", pairs=pairs)
        names = [(self._strip_protocol(source), self._strip_protocol(target)) for source, target in pairs]
        files = [pair for pair in names if infos.get(pair[0], {}).get("type") != "directory"]
        only = set(names).difference(files)
        directories = [pair for pair in names if pair in only or pair[0] in both]
        check_objects(files)

        def copied(pair: tuple[str, str]) -> bool:
            size = infos.get(pair[0], {}).get("size")
            try:
                self.client.copy(f"oss://{pair[0]}", self._uri(pair[1]), size=size, options=write_options)
            except OssNotFoundError:
                if not ignores:
                    raise
                return False
            return True

        done = self._at_once(copied, files)  # type: ignore[arg-type]
        for _, target in files:
            self.invalidate_cache(self._parent(target))
        return [pair for pair, was_copied in zip(files, done, strict=True) if was_copied], directories

    def rm_file(self, path: str) -> None:
        """Delete an object. It is no error if it does not exist."""
        self._delete([self._strip_protocol(path)])

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:  # noqa: ANN401, FBT001, FBT002 - the interface's
        """Delete objects, up to a thousand per request. A bucket stays: see :meth:`rmdir`.

        Args:
            path: An object, a pattern, a directory with `recursive`, or a list of these.
            recursive: Delete what lies below directories. If there is an object of a directory's name, it is deleted
                too, unless the path ends with a slash.
            maxdepth: Most levels.

        Raises:
            OssNotFoundError: There is neither an object nor a directory.
            IsADirectoryError: It is a directory, and `recursive` is false.
        """
        with self._noting() as noted:
            names = self.expand_path(path, maxdepth=maxdepth)
            infos = noted.found
        if not recursive:
            for name in names:
                if infos.get(name, {}).get("type") == "directory":
                    raise _is_a_directory(name, "delete")
            self._at_once(self._check_file, [name for name in names if name not in infos])
            self._delete(names)
            return
        directories = self._only_directories(path)
        for name in outermost(names) if maxdepth is None else names:
            self._made -= {made for made in self._made if f"{made}/".startswith(f"{name}/")}
            if maxdepth is None:
                self._delete_below(name, is_directory=name in directories)
            else:
                self._delete(self.find(name, maxdepth=maxdepth))

    def rmdir(self, path: str) -> None:
        """Delete an empty directory, which is an object that marks it, or an empty bucket.

        Raises:
            OSError: It is not empty.
        """
        name = self._strip_protocol(path)
        bucket, key = self._split(name)
        if not key:
            self.client.delete_bucket(bucket)
            self.invalidate_cache(name)
            return
        if any(self._child_pages(name)):
            raise OSError(errno.ENOTEMPTY, "directory not empty: rm with recursive=True deletes it", f"oss://{name}")
        self.client._native_client.delete(bucket, f"{key}/")  # noqa: SLF001 - the package's own
        self._made.discard(name)
        self.invalidate_cache(self._parent(name))

    def mkdir(self, path: str, create_parents: bool = True, **_options: Any) -> None:  # noqa: ANN401, ARG002, FBT001, FBT002 - the interface's
        """Create a bucket. Below a bucket only :meth:`isdir` knows of it: an object needs no directory.

        Raises:
            FileExistsError: The bucket exists.
        """
        name = self._strip_protocol(path)
        if self._split(name)[1]:
            self._made.add(name)
            return
        if self.exists(name):
            raise FileExistsError(errno.EEXIST, "the bucket exists", f"oss://{name}")
        self.client.create_bucket(name)
        self.invalidate_cache(name)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - the interface's
        """Create a bucket, as :meth:`mkdir` does.

        Raises:
            FileExistsError: The path is a bucket that exists, and `exist_ok` is false.
        """
        name = self._strip_protocol(path)
        if name and not (exist_ok and not self._split(name)[1] and self.exists(name)):
            self.mkdir(name)

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,  # noqa: ANN401 - a path, or an open file
        callback: Any = DEFAULT_CALLBACK,  # noqa: ANN401 - fsspec's
        outfile: IO[bytes] | None = None,
        pairs: Pairs | None = None,
        **_options: Any,  # noqa: ANN401 - the interface's
    ) -> None:
        """Copy an object to a local file, which appears whole or not at all; a directory is made.

        Raises:
            OssNotFoundError: There is neither an object nor a directory.
        """
        if pairs is not None:
            pairs.append((rpath, os.fspath(lpath)))
            return
        target = lpath if outfile is None and isfilelike(lpath) else outfile
        try:
            reader = self.client.reader(self._uri(rpath))
        except OssNotFoundError:
            if target is not None or not self.isdir(rpath):
                raise
            Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        with reader:
            callback.set_size(reader.size)
            if target is not None:
                _pump(reader, target, reader.size, callback)
                return
            Path(lpath).parent.mkdir(parents=True, exist_ok=True)
            with writing(os.fspath(lpath), None, durable=False) as file:
                _pump(reader, file, reader.size, callback)

    def get(
        self,
        rpath: Any,  # noqa: ANN401 - a path, or a list of them
        lpath: Any,  # noqa: ANN401 - as above
        recursive: bool = False,  # noqa: FBT001, FBT002 - the interface's
        callback: Any = DEFAULT_CALLBACK,  # noqa: ANN401 - fsspec's
        maxdepth: int | None = None,
        **_options: Any,  # noqa: ANN401 - the interface's
    ) -> None:
        """Copy objects to local files, several at a time. Each file appears whole or not at all.

        Raises:
            OssConfigError: A name cannot be a local path, would be a file and a directory, or two would be one file.
            OssNotFoundError: An object does not exist.
        """
        pairs: Pairs = []
        with self._noting() as noted:
            infos = noted.found
            super().get(rpath, lpath, recursive=recursive, maxdepth=maxdepth, pairs=pairs)
        check_downloads(pairs, infos, named=isinstance(lpath, list))
        callback.set_size(len(pairs))
        small: Pairs = []
        for source, target in pairs:
            found = infos.get(source)
            if found is not None and found["type"] == "directory":
                Path(target).mkdir(parents=True, exist_ok=True)
                callback.relative_update(1)
            elif found is not None and found["size"] <= _SMALL:
                small.append((source, target))
            else:
                with callback.branched(source, target) as child:
                    self.get_file(source, target, callback=child)
                callback.relative_update(1)
        self._get_small(small, infos, callback)

    def _get_small(self, pairs: Pairs, infos: dict[str, Entry], callback: Any) -> None:  # noqa: ANN401 - fsspec's
        rows = ((*split_object(f"oss://{source}"), infos[source]["size"], None, "", None) for source, _ in pairs)
        stream = self.client._native_client.stream_at(ObjectTable.from_objects(rows), range(len(pairs)))  # noqa: SLF001 - the package's own
        try:
            for (source, target), item in zip(pairs, stream, strict=True):
                content = item.read()
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                with callback.branched(source, target) as child:
                    child.set_size(len(content))
                    with writing(target, None, durable=False) as file:
                        file.write(content)
                    child.relative_update(len(content))
                callback.relative_update(1)
        finally:
            stream.close()

    def put_file(
        self,
        lpath: str,
        rpath: str,
        callback: Any = DEFAULT_CALLBACK,  # noqa: ANN401 - fsspec's
        mode: str = "overwrite",
        pairs: Pairs | None = None,
        **options: Any,  # noqa: ANN401 - those of `open`
    ) -> None:
        """Copy a local file to an object, which appears whole or not at all.

        Args:
            lpath: The file. A directory does nothing: an object needs none.
            rpath: The object.
            callback: Takes the size, and each number of bytes.
            mode: ``"overwrite"``, or ``"create"``, which fails if the object exists.
            pairs: Takes file and object instead.
            options: Options of :meth:`open`.

        Raises:
            OssExistsError: The object exists, and the mode is ``"create"``.
        """
        if pairs is not None:
            pairs.append((os.fspath(lpath), rpath))
            return
        if Path(lpath).is_dir():
            return
        with Path(lpath).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            callback.set_size(size)
            with self.open(rpath, "xb" if mode == "create" else "wb", **options) as writer:
                _pump(file, writer, size, callback)

    def put(
        self,
        lpath: Any,  # noqa: ANN401 - a path, or a list of them
        rpath: Any,  # noqa: ANN401 - as above
        recursive: bool = False,  # noqa: FBT001, FBT002 - the interface's
        callback: Any = DEFAULT_CALLBACK,  # noqa: ANN401 - fsspec's
        maxdepth: int | None = None,
        **options: Any,  # noqa: ANN401 - those of `put_file`
    ) -> None:
        """Copy local files to objects, several at a time. Each object appears whole or not at all.

        Raises:
            OssConfigError: Two files would become one object, or what lies below a directory is a pipe or the like.
        """
        pairs: Pairs = []
        super().put(lpath, rpath, recursive=recursive, maxdepth=maxdepth, pairs=pairs)
        check_uploads([(source, self._strip_protocol(target)) for source, target in pairs], recursive=recursive)
        callback.set_size(len(pairs))
        sizes = {source: _size_of(source) for source, _ in pairs}
        with ThreadPoolExecutor(_AT_ONCE, "oss-fsspec") as pool:

            def run(pair: tuple[str, str]) -> None:
                with callback.branched(*pair) as child:
                    self.put_file(*pair, callback=child, **options)
                callback.relative_update(1)

            if self._intrans:
                # Its files belong to this thread's transaction.
                for pair in pairs:
                    run(pair)
                return
            futures = [pool.submit(run, pair) for pair in pairs if sizes[pair[0]] <= _SMALL]
            try:
                for pair in pairs:
                    if sizes[pair[0]] > _SMALL:
                        run(pair)
                for future in futures:
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    def _check_file(self, name: str, what: str = "delete") -> None:
        """Raise unless there is an object."""
        if self.info(name)["type"] == "directory":
            raise _is_a_directory(name, what)

    def _delete_below(self, name: str, *, is_directory: bool) -> None:
        bucket, key = self._split(name)
        native = self.client._native_client  # noqa: SLF001 - the package's own
        deleted = False
        for rows, _ in native.list_pages(bucket, f"{key}/" if key else ""):
            if rows:
                # With the objects that mark directories.
                native.delete_many(bucket, [row[0] for row in rows])
                deleted = True
        if key and not (is_directory and deleted):
            try:
                self.client.head(f"oss://{name}")
            except OssNotFoundError:
                if not deleted:
                    raise
            else:
                native.delete(bucket, key)
        self._forget_below(name)

    def _delete(self, names: list[str]) -> None:
        if len(names) == 1:
            self.client.delete(self._uri(names[0]))
        else:
            self.client.delete_many(self._uri(name) for name in names)
        for name in names:
            self.invalidate_cache(self._parent(name))


def _pump(source: Any, target: Any, size: int, callback: Any) -> None:  # noqa: ANN401 - binary streams, and fsspec's
    # One byte larger than the file, so that one read also finds the end. What is no file has no size.
    buffer = memoryview(bytearray(max(_SMALLEST_CHUNK, min(_CHUNK, size + 1))))
    while count := source.readinto(buffer):
        rest = buffer[:count]
        while rest.nbytes:
            # A raw stream may take only some of the bytes, and some return nothing.
            taken = target.write(rest)
            rest = rest[rest.nbytes if taken is None else taken :]
        callback.relative_update(count)


def _size_of(path: str) -> int:
    file = Path(path)
    return file.stat().st_size if file.is_file() else 0


def _is_a_directory(name: str, what: str) -> IsADirectoryError:
    text = f"it is a directory: give recursive=True to {what} what lies below it"
    return IsADirectoryError(errno.EISDIR, text, f"oss://{name}")
