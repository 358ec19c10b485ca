"""Bytes of objects: whole objects and ranges, many at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from fsspec.spec import AbstractBufferedFile

from osstorchconnector._native import ObjectTable
from osstorchconnector.connection.uri import split_object
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssError
from osstorchconnector.fsspec.finding import Finding
from osstorchconnector.fsspec.rows import Entry

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader

# Bytes between two ranges that cost less than a request for the second one.
_GAP: Final = 64 << 10
# Bytes and ranges whose memory is made at once: some requests, few compared with all.
_BATCH: Final = 32 << 20
_BATCH_RANGES: Final = 256
# Most bytes of one request for several ranges.
_RUN: Final = 8 << 20


@guards_methods
class Reading(Finding):
    """The part of the file system that reads."""

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:  # noqa: ANN401 - the interface's
        """Return an object's bytes, or those of a range as in ``bytes[start:end]``.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        if start is None and end is None:
            return self.client.get(self._uri(path))
        (content,) = self.cat_ranges([path], [start], [end], on_error="raise")
        return bytes(content)

    def cat(
        self,
        path: Any,  # noqa: ANN401 - a path, or a list of them
        recursive: bool = False,  # noqa: FBT001, FBT002 - the interface's
        on_error: str = "raise",
        **options: Any,  # noqa: ANN401 - the interface's
    ) -> Any:  # noqa: ANN401 - bytes, or a dict of them
        """Return the bytes of one object, or of several by name, which are fetched at the same time.

        Args:
            path: An object, a pattern, a directory with `recursive`, or a list of these.
            recursive: Also return what lies below directories.
            on_error: ``"raise"``; ``"omit"`` leaves failed objects out; ``"return"`` returns their exceptions.
            options: ``start`` and ``end``: a range, the same of each object.

        Raises:
            OssNotFoundError: An object does not exist.
        """
        with self._noting() as noted:
            infos = noted.found
            paths = self.expand_path(path, recursive=recursive)
        if len(paths) == 1 and not isinstance(path, list) and paths[0] == self._strip_protocol(path):
            return self.cat_file(paths[0], **options)
        files = [one for one in paths if infos.get(one, {}).get("type") != "directory"]
        if options:
            starts, ends = options.get("start"), options.get("end")
            contents: Any = self.cat_ranges(files, starts, ends, on_error="raise" if on_error == "raise" else "return")
        else:
            contents = self._whole(files, infos, raising=on_error == "raise")
        found = dict(zip(files, contents, strict=True))
        if on_error == "omit":
            return {name: content for name, content in found.items() if not isinstance(content, Exception)}
        return found

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,  # noqa: ANN401 - a number, or a list of them
        ends: Any,  # noqa: ANN401 - as above
        max_gap: int | None = None,
        on_error: str = "return",
        **_options: Any,  # noqa: ANN401 - the interface's
    ) -> list[Any]:
        """Return the bytes of ranges of one or more objects, which are fetched at the same time.

        Args:
            paths: The object of each range.
            starts: The first byte of each, or of all. None: 0. Negative: from the end.
            ends: The byte after the last one of each, or of all. None: the object's size.
            max_gap: Ranges of an object with at most this many bytes between them are one request. Default: 64 KiB.
            on_error: ``"raise"``, or ``"return"`` for exceptions in place of bytes.
        """
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError(f"{len(paths)} paths have {len(starts)} starts and {len(ends)} ends")
        contents: list[Any] = [None] * len(paths)
        wanted: list[tuple[str, str, int, int, int]] = []
        sizes = self._sizes_for(paths, starts, ends)
        for number, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
            size = sizes.get(path)
            if isinstance(size, Exception):
                contents[number] = size
                continue
            first, last = (start or 0, end) if size is None else slice(start, end).indices(size)[:2]
            if first >= last:
                contents[number] = b""
            else:
                wanted.append((*split_object(self._uri(path)), first, last, number))
        for number, content in self._ranges(wanted, _GAP if max_gap is None else max_gap):
            contents[number] = content
        if on_error == "raise":
            for content in contents:
                if isinstance(content, Exception):
                    raise content
        return contents

    def _sizes_for(self, paths: list[str], starts: list[Any], ends: list[Any]) -> dict[str, Any]:
        """Return the sizes, or the exceptions, of objects with a range that counts from the end, or has no bytes."""

        def size(path: str) -> Any:  # noqa: ANN401 - as above
            try:
                return self.client.head(self._uri(path)).size
            except OssError as error:
                return error

        asked = {
            path
            for path, start, end in zip(paths, starts, ends, strict=True)
            # No request for the bytes of an empty range would find that the object is missing.
            if end is None or end <= (start or 0) or (start or 0) < 0
        }
        names = sorted(asked)
        return dict(zip(names, self._at_once(size, names), strict=True))

    def _ranges(self, wanted: list[tuple[str, str, int, int, int]], gap: int) -> Iterator[tuple[int, Any]]:
        """Yield the number of each range with its bytes, or with an exception."""
        config = self.client.config
        fetcher = self.client._native_client.range_fetcher(  # noqa: SLF001 - the package's own
            _batches(wanted),
            allocate=bytearray,
            gap=gap,
            run_limit=_RUN,
            concurrency=config.max_concurrency,
            budget=config.prefetch_bytes,
        )
        with fetcher:
            for fetched in fetcher:
                bucket, key, first, last, number = fetched.tag
                if fetched.error is not None:
                    yield number, fetched.error
                elif fetched.intact:
                    offset = fetched.offset
                    yield number, bytes(memoryview(fetched.memory)[offset : offset + last - first])
                elif fetched.object_size is not None and first >= fetched.object_size:
                    yield number, b""
                else:
                    # The object ends before the range does.
                    try:
                        yield number, self.client.get(f"oss://{bucket}/{key}", first, last)
                    except OssError as error:
                        yield number, error

    def _whole(self, files: list[str], infos: dict[str, Entry], *, raising: bool) -> Iterator[Any]:
        """Yield the bytes of each object in order, or its exception."""
        rows = ((*split_object(self._uri(name)), infos.get(name, {}).get("size"), None, "", None) for name in files)
        table = ObjectTable.from_objects(rows)
        stream = self.client._native_client.stream_at(table, range(len(files)))  # noqa: SLF001 - the package's own
        try:
            for _ in files:
                try:
                    yield next(stream).read()
                except OssError as error:
                    if raising:
                        raise
                    yield error
        finally:
            stream.close()


def _batches(
    wanted: list[tuple[str, str, int, int, int]],
) -> Iterator[list[tuple[Any, str, str, None, int, int, None, bytearray]]]:
    """Yield the ranges with memory for each, in order, so that those that lie close together are one request.

    The memory of a batch is made when the batch is asked for, so that not all of it is there twice at the end.
    """
    batch: list[tuple[Any, str, str, None, int, int, None, bytearray]] = []
    size = 0
    for one in sorted(wanted):
        bucket, key, first, last, _ = one
        batch.append((one, bucket, key, None, first, last - first, None, bytearray(last - first)))
        size += last - first
        if size >= _BATCH or len(batch) >= _BATCH_RANGES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class CachedFile(AbstractBufferedFile):  # type: ignore[misc]
    """An object read through a cache of fsspec, in blocks of a size that the program chose."""

    def __init__(self, fs: Any, path: str, reader: "OssReader", **options: Any) -> None:  # noqa: ANN401 - fsspec's
        """Read from a reader: all bytes come from the version that it opened."""
        self._reader = reader
        super().__init__(fs, path, mode="rb", size=reader.size, **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        buffer = bytearray(max(0, min(end, self.size) - start))
        if buffer:
            self._reader.readinto_many([(start, buffer)])
        return bytes(buffer)

    def close(self) -> None:
        """Close the file and its reader."""
        super().close()
        self._reader.close()
