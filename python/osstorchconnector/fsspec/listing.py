"""Names and descriptions: listing a directory, and what a path is."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from fsspec.utils import tokenize

from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssError, OssNotFoundError
from osstorchconnector.fsspec.instances import ClientFileSystem
from osstorchconnector.fsspec.rows import Entry, Row, descriptions, directory, names

if TYPE_CHECKING:
    from osstorchconnector.connection.stat import ObjectStat

# Listings and descriptions of one call that are in flight. More threads than this cost more than they bring.
REQUESTS: Final = 16
# Entries of a page of a listing.
_PAGE: Final = 1000
# Pages of files only, without a directory, before several segments are listed at once: most directories are shorter.
_FLAT_PAGES: Final = 2


@guards_methods
class Listing(ClientFileSystem):
    """The part of the file system that reads names and descriptions."""

    def ls(self, path: str, detail: bool = True, refresh: bool = False, **_options: Any) -> list[Any]:  # noqa: ANN401, FBT001, FBT002 - the interface's
        """Return files and directories directly below a directory; for an object, the object itself.

        The root has the buckets. If listings are cached, `refresh` asks again.

        Raises:
            OssNotFoundError: There is neither an object nor a directory.
        """
        name = self._strip_protocol(path)
        entries = None if refresh else self._cached_listing(name)
        if entries is None and not detail and not self.dircache.use_listings_cache:
            # Nothing keeps descriptions, so they are not made.
            found_names = [one for page in self._child_pages(name, detail=False) for one in page]
            return found_names or ([name] if self.info(name)["type"] == "file" else [])
        if entries is None:
            entries = self._children(name)
            if not entries:
                found = self.info(name)
                entries = [found] if found["type"] == "file" else []
            self.dircache[name] = entries
        if not detail:
            return [entry["name"] for entry in entries]
        # A caller may change what it gets, but not what is cached.
        return [dict(entry) for entry in entries] if self.dircache.use_listings_cache else entries

    def info(self, path: str, **_options: Any) -> Entry:  # noqa: ANN401 - the interface's
        """Return the description of a file or directory, always as it is now.

        A file has ``size``, ``ETag``, ``mtime`` (Unix time), ``LastModified``, ``StorageClass`` and ``ObjectType``. If
        there are both an object and a directory of a name, it is the object.

        Raises:
            OssNotFoundError: There is neither an object nor a directory.
        """
        name = self._strip_protocol(path)
        bucket, key = self._split(name) if name else ("", "")
        if key:
            try:
                return described(name, self.client.stat(f"oss://{name}"))
            except OssNotFoundError:
                if not self._has_children(name):
                    raise
        elif bucket:
            # An empty bucket is a directory too, so only the request counts.
            self._has_children(name)
        return directory(name)

    def exists(self, path: str, **_options: Any) -> bool:  # noqa: ANN401 - the interface's
        """Return whether there is an object or a directory. Errors of the service are raised."""
        try:
            self.info(path)
        except OssNotFoundError:
            return False
        return True

    def isdir(self, path: str) -> bool:
        """Return whether there is a directory, even if there is an object of that name too.

        A directory that :meth:`mkdir` or :meth:`makedirs` of this instance made counts, also as long as it is empty.
        """
        name = self._strip_protocol(path)
        if not name or name in self._made:
            return True
        noted = self._notes.found.get(name)
        if noted is not None:
            return noted["type"] == "directory" or name in self._notes.both
        try:
            return self._has_children(name) or not self._split(name)[1]
        except OssNotFoundError:
            return False

    def isfile(self, path: str) -> bool:
        """Return whether there is an object."""
        name = self._strip_protocol(path)
        if not name or not self._split(name)[1]:
            return False
        try:
            self.client.head(f"oss://{name}")
        except OssNotFoundError:
            return False
        return True

    def sizes(self, paths: list[str]) -> list[int | None]:
        """Return the sizes of files."""
        return [found["size"] for found in self._at_once(self.info, paths)]

    def ukey(self, path: str) -> str:
        """Return a text that changes when the object is replaced."""
        return hashlib.sha256(repr(self._version(path)).encode()).hexdigest()

    def checksum(self, path: str) -> int:
        """Return a number that changes when the object is replaced."""
        return int(tokenize(self._version(path)), 16)

    def modified(self, path: str) -> datetime:
        """Return when an object was last written.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        at = self.client.stat(self._uri(path)).last_modified
        if at is None:
            raise OssError(f"the service does not say when {self._uri(path)} was last written")
        return at

    def created(self, path: str) -> datetime:
        """Return when an object was created: when it was last written, since an object is replaced as a whole.

        Raises:
            OssNotFoundError: The object does not exist.
            NotImplementedError: The object grows by appends, and OSS keeps only the time of the last one.
        """
        if self.client.stat(self._uri(path)).object_type == "Appendable":
            raise NotImplementedError(f"OSS does not keep when the appendable object {self._uri(path)} was created")
        return self.modified(path)

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:  # noqa: ANN401 - those of `presign`
        """Return a URL that anyone who has it may read the object with, for `expiration` seconds. It is a secret.

        Args:
            path: The object.
            expiration: Seconds that the URL is valid.
            options: ``method`` and ``headers``, as :meth:`OssClient.presign` takes them.
        """
        return self.client.presign(self._uri(path), expires=expiration, **options)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget cached listings: all of them, or those that a path is in."""
        if path is None:
            self.dircache.clear()
        else:
            name = self._strip_protocol(path)
            while True:
                self.dircache.pop(name, None)
                if not name:
                    break
                name = self._parent(name)
        super().invalidate_cache(path)

    def _forget_below(self, name: str) -> None:
        """Forget cached listings of a directory that is deleted, and of those below it and above it."""
        for cached in [one for one in self.dircache if f"{one}/".startswith(f"{name}/")]:
            self.dircache.pop(cached, None)
        self.invalidate_cache(name)

    def _forget_written(self) -> None:
        """Forget cached listings that files being written change, until they are published or aborted."""
        for parent, writer in list(self._being_written):
            is_over = writer.etag is not None or writer.aborted or getattr(writer, "appended", False)
            self.invalidate_cache(parent)
            if is_over:
                # Several threads list at the same time, and one of them is the first.
                with suppress(ValueError):
                    self._being_written.remove((parent, writer))

    def _cached_listing(self, name: str) -> list[Entry] | None:
        self._forget_written()
        try:
            cached: list[Entry] = self.dircache[name]
        except KeyError:
            return None
        return cached

    def _version(self, path: str) -> tuple[str, int, Any]:
        entry = self.info(path)
        if entry["type"] == "directory":
            return entry["name"], 0, None
        return entry["name"], entry["size"], entry["ETag"] or entry["mtime"]

    def _has_children(self, name: str) -> bool:
        bucket, key = self._split(name)
        start = f"{key}/" if key else ""
        pages = self.client._native_client.list_pages(bucket, start, delimiter="/", page_size=1)  # noqa: SLF001 - the package's own
        return any(rows or prefixes for rows, prefixes in pages)

    def _children(self, name: str, prefix: str = "") -> list[Entry]:
        """Return what lies directly below a directory. The root has the buckets."""
        return [entry for page in self._child_pages(name, prefix) for entry in page]

    def _child_pages(self, name: str, prefix: str = "", *, detail: bool = True) -> Iterator[list[Any]]:
        """Yield what lies directly below a directory, page by page in order: descriptions, or names."""
        if not name:
            buckets = [bucket for bucket in self.client.list_buckets() if bucket.startswith(prefix)]
            yield [directory(bucket) for bucket in buckets] if detail else buckets
            return
        bucket, key = self._split(name)
        start = f"{key}/" if key else ""
        for rows, prefixes in self._child_rows(bucket, start, prefix):
            # A key with two slashes in a row has a part without a name, which no path can show.
            directories = [f"{bucket}/{one[:-1]}" for one in prefixes if one != f"{start}/"]
            # The service lists each of them in order.
            if detail:
                yield _merged(descriptions(bucket, rows), [directory(one) for one in directories], _name)
            else:
                yield _merged(names(bucket, rows), directories, None)

    def _child_rows(self, bucket: str, start: str, prefix: str) -> Iterator[tuple[list[Row], list[str]]]:
        """Yield the pages of what lies directly below a directory, as the client lists them."""
        last: str | None = None
        patience = _FLAT_PAGES
        while True:
            pages = self.client._native_client.list_pages(  # noqa: SLF001 - the package's own
                bucket, start + prefix, delimiter="/", start_after=last
            )
            flat = 0
            for rows, prefixes in pages:
                yield rows, prefixes
                flat = flat + 1 if len(rows) == _PAGE and not prefixes else 0
                if flat == patience and self.client.config.fast_list:
                    last = rows[-1][0]
                    break
            else:
                return
            # Files only, so there may be many more of them: then several segments are listed at once. That lists
            # what is below directories too, so it ends before the first directory.
            pages = self.client._native_client.list_pages(bucket, start + prefix, parallel=True, start_after=last)  # noqa: SLF001 - as above
            for rows, _ in pages:
                # Slashes of all keys at once: there is no more than those of the directory on nearly every page.
                if "".join([row[0] for row in rows]).count("/") == start.count("/") * len(rows):
                    yield rows, []
                    last = rows[-1][0]
                    continue
                count = next(at for at, row in enumerate(rows) if row[0].find("/", len(start)) >= 0)
                if count:
                    yield rows[:count], []
                    last = rows[count - 1][0]
                break
            else:
                return
            # Each change costs what was in flight.
            patience *= 2

    def _at_once(self, call: Callable[[str], Any], names: list[str]) -> list[Any]:
        """Return what a call returns for each name, with several requests in flight."""
        if len(names) < 2:  # noqa: PLR2004 - nothing to do at once
            return [call(name) for name in names]
        with ThreadPoolExecutor(min(REQUESTS, len(names)), "oss-fsspec") as pool:
            futures = [pool.submit(call, name) for name in names]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise


def _merged(files: list[Any], directories: list[Any], key: Callable[[Any], str] | None) -> list[Any]:
    return sorted(files + directories, key=key) if files and directories else files or directories


def _name(entry: Entry) -> str:
    return str(entry["name"])


def described(name: str, stat: "ObjectStat") -> Entry:
    """Return the description of an object."""
    modified = stat.last_modified
    return {
        "name": name,
        "size": stat.size,
        "type": "file",
        "ETag": stat.etag,
        "mtime": None if modified is None else modified.timestamp(),
        "LastModified": modified,
        "StorageClass": stat.storage_class,
        "ObjectType": stat.object_type,
    }
