"""``oss://`` for libraries that use ``fsspec``: listing, and reading and writing single objects."""

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

import fsspec
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.registry import registry

from osstorchconnector.connection.uri import split_object, split_prefix
from osstorchconnector.connection.write_options import WriteOptions
from osstorchconnector.exceptions import OssConfigError, OssError, OssNotFoundError
from osstorchconnector.fsspec.writing import CompressedWriter, OssTransaction

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader, Writer
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.connection.seekable_writer import SeekableWriter


# What an append leaves as it is, beside metadata and storage class. Tags, ACL and encryption are those of a new object.
_KEPT: Final = ("content_type", "cache_control", "content_disposition", "content_encoding", "expires")

# Large enough for the reader's and the writer's full speed.
_COPIED_AT_ONCE: Final = 8 << 20


class OssObjects(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Objects as files, and the parts of their keys that end with a slash as directories."""

    protocol = "oss"
    transaction_type = OssTransaction
    # Its instances have no state, so there is nothing to cache.
    cachable = False
    client: "ClassVar[OssClient | None]" = None

    def ls(self, path: str, detail: bool = True, **_options: object) -> list[Any]:  # noqa: FBT001, FBT002 - the interface's
        """Return files and directories directly below a directory; for an object, the object itself."""
        name = self._strip_protocol(path)
        bucket, prefix = split_prefix(f"oss://{name}/")
        found: dict[str, dict[str, Any]] = {}
        for listed in self._client().list(f"oss://{bucket}/{prefix}"):
            child, separator, _ = listed.name[len(prefix) :].partition("/")
            if not child:
                continue
            entry = f"{bucket}/{prefix}{child}"
            if separator:
                found.setdefault(entry, {"name": entry, "size": 0, "type": "directory"})
            else:
                found[entry] = {"name": entry, "size": listed.size, "type": "file"}
        if not found:
            info = self.info(path)
            if info["type"] == "file":
                found[info["name"]] = info
        return list(found.values()) if detail else list(found)

    def info(self, path: str, **_options: object) -> dict[str, Any]:
        """Return name, size and type of a file or directory.

        Raises:
            OssNotFoundError: There is neither an object nor a directory.
        """
        name = self._strip_protocol(path)
        bucket, key = split_prefix(f"oss://{name}")
        if key:
            try:
                return {"name": name, "size": self._client().head(f"oss://{name}").size, "type": "file"}
            except OssNotFoundError:
                if next(iter(self._client().list(f"oss://{name}/")), None) is None:
                    raise
        else:
            next(iter(self._client().list(f"oss://{bucket}/")), None)
        return {"name": name, "size": 0, "type": "directory"}

    def exists(self, path: str, **_options: object) -> bool:
        """Return whether there is an object or a directory. Errors of the service are raised."""
        try:
            self.info(path)
        except OssNotFoundError:
            return False
        return True

    def modified(self, path: str) -> datetime:
        """Return when an object was last written.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        at = self._client().head(self._uri(path)).last_modified
        if at is None:
            raise OssError(f"the service does not say when {self._uri(path)} was last written")
        return datetime.fromtimestamp(at, UTC)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - the interface's
        """Do nothing: an object needs no directory."""

    def mkdir(self, path: str, create_parents: bool = True, **_options: object) -> None:  # noqa: FBT001, FBT002 - the interface's
        """Do nothing: an object needs no directory."""

    def rm_file(self, path: str) -> None:
        """Delete an object."""
        self._client().delete(self._uri(path))

    def cp_file(self, path1: str, path2: str, **_options: object) -> None:
        """Copy an object."""
        self._client().copy(self._uri(path1), self._uri(path2))

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **options: Any,  # noqa: ANN401 - the interface's
    ) -> Any:  # noqa: ANN401 - depends on mode and compression
        """Open an object. A written object appears when it is closed, or when the transaction ends.

        If an exception is the reason of closing it, the previous object stays. With the option ``seekable=True``, the
        file can seek and read what was written: it is a temporary file until it is published.
        """
        opened = super().open
        if compression is None or mode != "wb":
            return opened(path, mode, block_size, cache_options, compression, **options)
        name = get_compression(path, compression)
        writer = opened(path, mode, block_size, cache_options, **options)
        return writer if name is None else CompressedWriter(compr[name](writer, mode="w"), writer)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        *,
        autocommit: bool = True,
        seekable: bool = False,
        **_options: object,
    ) -> "OssReader | Writer | SeekableWriter":
        if mode == "rb":
            return self._client().reader(self._uri(path))
        if mode not in {"wb", "ab"}:
            raise OssConfigError(f"{self._uri(path)} cannot be opened with mode {mode!r}: use 'rb', 'wb' or 'ab'")
        if mode == "ab":
            return self._open_to_append(self._uri(path), seekable=seekable, deferred=not autocommit)
        return self._client().writer(self._uri(path), seekable=seekable, deferred=not autocommit)

    def _open_to_append(self, uri: str, *, seekable: bool, deferred: bool) -> "Writer | SeekableWriter":
        """Return a writer that holds what the object holds now: an object is replaced as a whole."""
        try:
            before = self._client().stat(uri)
        except OssNotFoundError:
            return self._client().writer(uri, seekable=seekable, deferred=deferred)
        kept = {name: before.headers.get(name.replace("_", "-")) for name in _KEPT}
        options = WriteOptions(storage_class=before.storage_class, metadata=before.metadata, **kept)  # type: ignore[arg-type]
        writer = self._client().writer(uri, before.size, seekable=seekable, deferred=deferred, options=options)
        try:
            with self._client().reader(uri) as reader:
                shutil.copyfileobj(reader, writer, _COPIED_AT_ONCE)
        except BaseException:
            writer.abort()
            raise
        return writer

    def _uri(self, path: str) -> str:
        uri = f"oss://{self._strip_protocol(path)}"
        split_object(uri)
        return uri

    def _client(self) -> "OssClient":
        if self.client is None:
            raise OssConfigError("fsspec has no client for oss:// in this process: make an OssCheckpointIO first")
        return self.client


def register(client: "OssClient") -> None:
    """Make ``fsspec`` use a client for ``oss://``, unless another implementation is registered."""
    if registry.get("oss") in {None, OssObjects}:
        fsspec.register_implementation("oss", OssObjects, clobber=True)
        OssObjects.client = client
