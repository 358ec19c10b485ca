"""``oss://`` for libraries that use ``fsspec``: the file system as a whole, with opening and writing."""

import shutil
from typing import TYPE_CHECKING, Any, Final

from fsspec.caching import caches
from fsspec.compression import compr
from fsspec.core import get_compression

from osstorchconnector.connection.write_options import WriteOptions, check_options
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssExistsError, OssNotFoundError
from osstorchconnector.fsspec.appending import SMALLEST_PART, AppendableEnd, AppendWriter, CopiedEnd, End, RewrittenEnd
from osstorchconnector.fsspec.moving import Moving
from osstorchconnector.fsspec.reading import CachedFile
from osstorchconnector.fsspec.writing import CompressedWriter, OssTransaction

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader, Writer
    from osstorchconnector.connection.seekable_writer import SeekableWriter

# What an append leaves as it is, beside metadata and storage class. Tags, ACL and encryption are those of a new object.
_KEPT: Final = ("content_type", "cache_control", "content_disposition", "content_encoding", "expires")

# Large enough for the reader's and the writer's full speed.
_COPIED_AT_ONCE: Final = 8 << 20

_MODES: Final = ("rb", "wb", "xb", "ab")


# Other file systems of fsspec are called after their service, such as S3FileSystem. Here, OssFileSystem is the one of
# distributed checkpoints; obstore, which has the same trouble, puts Fsspec first too.
@guards_methods
class FsspecFileSystem(Moving):
    """Objects as files, and the parts of their keys that end with a slash as directories.

    ``fsspec`` makes it for ``oss://``. Its methods are those of ``fsspec.AbstractFileSystem``. It holds configuration
    only, so it pickles and may be used after a fork. Threads may share it, except for a transaction.

    The storage options are the connection arguments of :class:`OssClient`, each field of :class:`OssConfig`, and:

    - ``key``, ``secret``, ``token``: the access key, under the names of ``ossfs``.
    - ``profile``: a profile of the command line tool ``aliyun``, or of the INI file.
    - ``client``: an :class:`OssClient`, which decides everything.
    - ``pickle_secrets``: True puts an access key of the options into every pickle, so that it reaches processes that
      dask or Ray started. Default: only into pickles that start a process.
    - ``use_listings_cache``, ``listings_expiry_time``, ``max_paths``: the cache of listings. Default: none.
    - ``default_block_size``, ``default_cache_type``: the cache of opened files. Default: the reader's own window.
    """

    transaction_type = OssTransaction

    def start_transaction(self) -> OssTransaction:
        """Begin a transaction, which :meth:`end_transaction` ends.

        Raises:
            OssConfigError: One has begun already.
        """
        OssTransaction.check_free(self)
        started: OssTransaction = super().start_transaction()
        return started

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

        If an exception is the reason of closing it, the previous object stays.

        Args:
            path: The object.
            mode: ``"rb"``, ``"wb"``, ``"xb"`` (fails if the object exists), ``"ab"``, or these without the ``b`` for
                text.
            block_size: Bytes of a block of a cache of fsspec.
            cache_options: Options of that cache.
            compression: A compression of fsspec, or ``"infer"``.
            options: ``cache_type``: a cache of fsspec, instead of the reader's own window. ``seekable=True``: the
                written file can seek and read what was written; it is a temporary file until it is published.
                ``write_options``: a :class:`WriteOptions`; of an object that is appended to, only ``forbid_overwrite``
                counts. ``autocommit=False``: only ``commit`` publishes. For text:
                ``encoding``, ``errors``, ``newline``.

        Raises:
            OssConfigError: There is no such mode, or no such cache.
            OssExistsError: The object exists, and the mode is ``"xb"``.
            OssNotFoundError: The object does not exist.
        """
        opened = super().open
        if compression is None or mode not in {"wb", "xb", "ab"}:
            return opened(path, mode, block_size, cache_options, compression, **options)
        name = get_compression(path, compression)
        writer = opened(path, mode, block_size, cache_options, **options)
        return writer if name is None else CompressedWriter(compr[name](writer, mode="w"), writer)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,  # noqa: FBT001, FBT002 - the interface's
        cache_options: dict[str, Any] | None = None,
        *,
        cache_type: str | None = None,
        seekable: bool = False,
        write_options: WriteOptions | None = None,
        **_options: Any,  # noqa: ANN401 - the interface's
    ) -> "OssReader | CachedFile | Writer | SeekableWriter":
        uri = self._uri(path)
        check_options("write_options", write_options)
        if mode == "rb":
            block_size = block_size or self._default_block_size
            cache_type = cache_type or self._default_cache_type
            if cache_type is not None and cache_type not in caches:
                known = ", ".join(sorted(name for name in caches if name))
                raise OssConfigError(f"{uri} cannot be opened: fsspec has no cache {cache_type!r}, only {known}")
            reader = self.client.reader(uri)
            if block_size is None and cache_type is None:
                return reader
            return CachedFile(
                self,
                self._strip_protocol(path),
                reader,
                block_size=block_size or "default",
                cache_type=cache_type or "readahead",
                cache_options=cache_options,
            )
        if mode not in _MODES:
            raise OssConfigError(f"{uri} cannot be opened with mode {mode!r}: use one of {', '.join(_MODES)}")
        if not autocommit:
            self.transaction.check_process()
        if mode == "ab":
            writer = self._open_to_append(uri, write_options, seekable=seekable, deferred=not autocommit)
            return self._noted(path, writer)
        if mode == "xb":
            if self.isfile(path):
                raise OssExistsError(f"{uri} exists, and mode 'xb' does not replace it")
            # Somebody may write it meanwhile: then publishing fails.
            write_options = WriteOptions(forbid_overwrite=True).over(write_options)
        writer = self.client.writer(uri, seekable=seekable, deferred=not autocommit, options=write_options)
        return self._noted(path, writer)

    def _noted(self, path: str, writer: "Writer | SeekableWriter") -> "Writer | SeekableWriter":
        if self.dircache.use_listings_cache:
            self._being_written.append((self._parent(path), writer))
        return writer

    def _open_to_append(
        self, uri: str, options: WriteOptions | None, *, seekable: bool, deferred: bool
    ) -> "Writer | SeekableWriter":
        """Return a writer whose bytes come after those that the object has now."""
        try:
            before = self.client.stat(uri)
        except OssNotFoundError:
            before = None
        if before is None:
            if seekable or self._is_cold(options):
                return self.client.writer(uri, seekable=seekable, deferred=deferred, options=options)
            return AppendWriter(self.client, uri, 0, AppendableEnd(self.client, uri, options), deferred=deferred)
        if before.object_type == "Appendable" and not seekable:
            end: End = AppendableEnd(self.client, uri, None)
            return AppendWriter(self.client, uri, before.size, end, deferred=deferred)
        # Otherwise an object is replaced as a whole, if it may be, and stays as it was stored.
        forbid = None if options is None else options.forbid_overwrite
        kept = {name: before.headers.get(name.replace("_", "-")) for name in _KEPT}
        options = WriteOptions(
            storage_class=before.storage_class,  # type: ignore[arg-type]
            metadata=before.metadata,
            forbid_overwrite=forbid,
            **kept,  # type: ignore[arg-type]
        )
        if not seekable:
            kind = CopiedEnd if before.size >= SMALLEST_PART else RewrittenEnd
            end = kind(self.client, uri, before, options)
            return AppendWriter(self.client, uri, before.size, end, deferred=deferred)
        writer = self.client.writer(uri, before.size, seekable=seekable, deferred=deferred, options=options)
        try:
            with self.client.reader(uri) as reader:
                shutil.copyfileobj(reader, writer, _COPIED_AT_ONCE)
        except BaseException:
            writer.abort()
            raise
        return writer

    def _is_cold(self, options: WriteOptions | None) -> bool:
        """Return whether a new object has a class that OSS appends nothing to."""
        options = (options or WriteOptions()).over(self.client.config.write_options)
        return options.storage_class in {"ColdArchive", "DeepColdArchive"}

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **options: Any) -> None:  # noqa: ANN401 - any buffer
        """Create or replace an object.

        Args:
            path: The object.
            value: Its bytes.
            mode: ``"overwrite"``, or ``"create"``, which fails if the object exists.
            options: Options of :meth:`open`.

        Raises:
            OssExistsError: The object exists, and the mode is ``"create"``.
        """
        if self._intrans or options:
            with self.open(path, "xb" if mode == "create" else "wb", **options) as writer:
                writer.write(value)
            return
        # False would undo what the configuration says.
        self.client.put(self._uri(path), value, forbid_overwrite=True if mode == "create" else None)
        self.invalidate_cache(self._parent(path))

    def pipe(self, path: Any, value: Any = None, **options: Any) -> None:  # noqa: ANN401 - a path, or a dict
        """Create or replace an object, or several, which are sent at the same time.

        Args:
            path: The object, or a dict of objects and their bytes.
            value: The bytes of a single object.
            options: Those of :meth:`pipe_file`.
        """
        if isinstance(path, dict) and not self._intrans:
            self._at_once(lambda one: self.pipe_file(one, path[one], **options), list(path))
        else:
            super().pipe(path, value, **options)

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:  # noqa: ANN401, FBT001, FBT002 - the interface's
        """Create an empty object, or replace one by it. With ``truncate=False``, one that exists is only written anew.

        Args:
            path: The object.
            truncate: Whether an object loses its bytes.
            options: Those of :meth:`open`.
        """
        if truncate or not self.isfile(path):
            self.pipe_file(path, b"", **options)
        else:
            # A copy onto itself inside the service has the time of now.
            self.client.copy(self._uri(path), self._uri(path), options=options.get("write_options"))
            self.invalidate_cache(self._parent(path))
