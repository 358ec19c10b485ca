"""The client: configuration that pickles, and a native client that does not."""

import atexit
import builtins
import logging
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from osstorchconnector._native import (
    Client,
    DataObject,
    ObjectListing,
    OssReader,
    Writer,
    end_uploads,
)
from osstorchconnector.connection.config import OssConfig, ResolvedConfig, resolve, resolve_local
from osstorchconnector.connection.log import write_log
from osstorchconnector.connection.object_operations import ObjectOperations
from osstorchconnector.connection.seekable_writer import SPOOL_LIMIT, SeekableWriter
from osstorchconnector.connection.uri import check_bucket, check_object, split_object, split_prefix
from osstorchconnector.connection.write_options import Headers, WriteOptions
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.owner import PerProcess
from osstorchconnector.process.worker import worker_share

if TYPE_CHECKING:
    from typing_extensions import Buffer

_logger: Final = logging.getLogger(__name__)

# One thread moves 3 to 4 GB/s; eight move more than the network card of a training machine.
_MOST_IO_THREADS: Final = 8

# Alibaba's own SDKs copy larger objects in parts. One request may copy up to 1 GiB, but OSS sends nothing before all of
# it is copied, and the client limits silence.
_LARGEST_COPY: Final = 200 << 20

# How long the end of the interpreter waits until unfinished uploads are aborted: time for a request and two retries.
_END_SECONDS: Final = 5.0

atexit.register(end_uploads, _END_SECONDS)


class OssClient(ObjectOperations):
    """A client of OSS, for single operations on buckets and objects.

    It holds configuration only. Each process makes its own native client at the first use, so that you may build a
    client before a fork, or pickle it to start a worker. An access key given in the program, or a provider object, is
    pickled only to start a process; of ``cred_path`` and environment variables, only the names are pickled.

    The arguments of the constructor are the connection arguments. All classes of this package take the same.
    """

    def __init__(
        self,
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
    ) -> None:
        """Resolve the configuration. The network is not used.

        Args:
            endpoint: Endpoint of the buckets' region, such as ``oss-cn-hangzhou-internal.aliyuncs.com``. Without
                a scheme: HTTPS, or HTTP for an IP address or ``localhost``. The datasets and
                :func:`generate_tar_archive` also take an empty endpoint: then objects are files of this machine, and
                their URIs are absolute paths.
            cred_path: JSON file with ``AccessKeyId``, ``AccessKeySecret`` and optionally ``SecurityToken`` and
                ``Expiration``.
            config_path: JSON configuration file.
            cred_provider: Object with a method ``get_credentials()``, as the OSS SDKs have them, or a source of
                :mod:`osstorchconnector.credentials`. It wins over ``cred_path``. If neither is given, and no key in
                `config`: :class:`osstorchconnector.credentials.DefaultCredentials`.
            region: Region ID such as ``cn-hangzhou``. Empty: ``OSS_REGION`` in the environment, else the region that
                the endpoint names.
            config: All other settings.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        self._resolved = resolve(endpoint, cred_path, config_path, cred_provider, region, config)
        self._native_clients: PerProcess[Client] = PerProcess()

    @property
    def endpoint(self) -> str:
        """The endpoint, with its scheme."""
        return self._resolved.endpoint

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return self._resolved.region

    @property
    def config(self) -> OssConfig:
        """The resolved configuration, without its access key."""
        return self._resolved.config

    @property
    def _native_client(self) -> Client:
        return self._native_clients.get(lambda: _connect(self._resolved))

    def head(self, uri: str) -> DataObject:
        """Return an object's description: size and ETag. Its bytes are fetched when it is read.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        return self._native_client.head(*split_object(uri))

    def get(self, uri: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes.

        Args:
            uri: The object.
            start: The first byte. Default: 0.
            end: The byte after the last one. Default: the object's size.

        Raises:
            OssNotFoundError: The object does not exist.
            OssConfigError: The range is invalid.
        """
        if (start or 0) < 0 or (end is not None and end < (start or 0)):
            shown = f"{start or 0}–{'' if end is None else end}"  # noqa: RUF001 - a dash, since numbers may be negative
            raise OssConfigError(f"invalid range {shown} for {uri}: 0 <= start <= end is needed")
        return self._native_client.get(*split_object(uri), start, end)

    def put(
        self,
        uri: str,
        data: "Buffer",
        *,
        content_type: str | None = None,
        forbid_overwrite: bool = False,
        options: WriteOptions | None = None,
    ) -> str:
        """Create or replace an object and return its ETag. An object above ``part_size`` is uploaded in parts.

        Args:
            uri: The object.
            data: Bytes or any object with a contiguous buffer.
            content_type: The media type to store. Default: what the service assumes.
            forbid_overwrite: Fail if the object exists.
            options: How it is stored. What is left out comes from ``OssConfig.write_options``.

        Raises:
            OssError: The object was not stored. The code is ``"FileAlreadyExists"`` if it exists and must not be
                overwritten.
        """
        bucket, key = split_object(uri)
        given = WriteOptions(content_type=content_type, forbid_overwrite=forbid_overwrite).over(options)
        return self._native_client.put(bucket, key, data, headers=self._write_headers(given))

    def delete(self, uri: str) -> None:
        """Delete an object. It is no error if it does not exist."""
        self._native_client.delete(*split_object(uri))

    def delete_many(self, uris: Iterable[str]) -> None:
        """Delete objects, up to a thousand per request. It is no error if one does not exist."""
        keys: dict[str, list[str]] = {}
        for uri in uris:
            bucket, key = split_object(uri)
            keys.setdefault(bucket, []).append(key)
        for bucket, bucket_keys in keys.items():
            self._native_client.delete_many(bucket, bucket_keys)

    def copy(
        self,
        source_uri: str,
        uri: str,
        *,
        size: int | None = None,
        progress: Callable[[int], object] | None = None,
        options: WriteOptions | None = None,
    ) -> None:
        """Copy an object of any size inside the service, in the same region, with its media type, metadata and tags.

        An object above 200 MiB is copied in parts. All bytes of the copy are of one version of the source, and it
        appears whole or not at all.

        Args:
            source_uri: The object.
            uri: The new object.
            size: The source's size in bytes, if you know it; that saves a request.
            progress: Called in this thread with the number of bytes that were copied since the last call. If it raises,
                the copy ends.
            options: What is stored otherwise than at the source, besides ``OssConfig.write_options``.

        Raises:
            OssNotFoundError: The source does not exist.
            OssIntegrityError: The source was replaced meanwhile, or the checksum of the copy differs.
        """
        self._copy(split_object(source_uri), split_object(uri), size, progress, options)

    def list(self, uri: str, *, delimiter: str = "") -> ObjectListing:
        """List the objects under a prefix in key order, as descriptions whose bytes are fetched when they are read.

        Args:
            uri: Bucket, or bucket and prefix.
            delimiter: Keys that share what follows the prefix up to this are one entry, which ends with it, such as a
                directory with ``"/"``. The entry has no ETag; an object has one. Default: list all objects.
        """
        return self._native_client.list(*split_prefix(uri), delimiter=delimiter)

    def open(self, uri: str) -> DataObject:
        """Open an object for reading; its bytes are fetched as they are read.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        return self._native_client.open(*split_object(uri))

    def reader(self, uri: str) -> OssReader:
        """Open an object for fast reading: sequentially, at any position, or into memory of the caller.

        This call fetches only the description. All bytes come from the version that exists now.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        return self._native_client.reader(*split_object(uri))

    @overload
    def writer(
        self, uri: str, size_hint: int | None = None, *, deferred: bool = False, options: WriteOptions | None = None
    ) -> Writer: ...

    @overload
    def writer(
        self,
        uri: str,
        size_hint: int | None = None,
        *,
        seekable: Literal[False],
        deferred: bool = False,
        options: WriteOptions | None = None,
    ) -> Writer: ...

    @overload
    def writer(
        self,
        uri: str,
        size_hint: int | None = None,
        *,
        seekable: Literal[True],
        deferred: bool = False,
        options: WriteOptions | None = None,
        spool_directory: str | os.PathLike[str] | None = None,
        spool_limit: int | None = None,
    ) -> SeekableWriter: ...

    @overload
    def writer(
        self,
        uri: str,
        size_hint: int | None = None,
        *,
        seekable: bool,
        deferred: bool = False,
        options: WriteOptions | None = None,
        spool_directory: str | os.PathLike[str] | None = None,
        spool_limit: int | None = None,
    ) -> Writer | SeekableWriter: ...

    def writer(
        self,
        uri: str,
        size_hint: int | None = None,
        *,
        seekable: bool = False,
        deferred: bool = False,
        options: WriteOptions | None = None,
        spool_directory: str | os.PathLike[str] | None = None,
        spool_limit: int | None = None,
    ) -> Writer | SeekableWriter:
        """Open an object for writing. It appears, or is replaced, when its ``with`` block ends or it is closed.

        If the block raises, or if ``close`` is called because of an exception, the writer aborts and the previous
        object stays. ``publish`` publishes in any case.

        Args:
            uri: The object.
            size_hint: About how many bytes will be written; it is no limit. With it, all parts have one size. Only an
                object of more than 8 TiB needs it.
            seekable: Return a writer that can seek, and read what was written: a temporary file without a name, which
                is uploaded when the writer is published.
            deferred: The end of the block, and ``close``, only end the writing; ``publish`` alone publishes.
            spool_directory: The directory for the temporary file of a seekable writer. Default: the directory of
                :mod:`tempfile`, which ``TMPDIR`` decides.
            spool_limit: Most bytes of the temporary file. Default: 64 GiB.
            options: How it is stored. What is left out comes from ``OssConfig.write_options``.

        Raises:
            OssConfigError: `uri` names no object, or OSS has no objects as large as the hint, or the temporary file
                cannot be made, or an option of it is given without `seekable`.
        """
        if size_hint is not None and not 0 <= size_hint < 1 << 63:
            raise OssConfigError(f"size_hint must be a number of bytes that an object can have, not {size_hint}")
        if not seekable and (spool_directory is not None or spool_limit is not None):
            raise OssConfigError("spool_directory and spool_limit are options of a seekable writer: give seekable=True")
        if spool_limit is not None and spool_limit < 0:
            raise OssConfigError(f"spool_limit must be a number of bytes, not {spool_limit}")
        headers = self._write_headers(options)
        writer = self._native_client.writer(*split_object(uri), size_hint, deferred=deferred, headers=headers)
        if not seekable:
            return writer
        limit = SPOOL_LIMIT if spool_limit is None else spool_limit
        return SeekableWriter(writer, spool_directory, limit, deferred=deferred)

    def create_bucket(self, name: str) -> None:
        """Create a bucket. It is no error if this account already has it."""
        self._native_client.create_bucket(check_bucket(name))

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""
        self._native_client.delete_bucket(check_bucket(name))

    def list_buckets(self) -> builtins.list[str]:
        """Return the names of this account's buckets, in order."""
        return self._native_client.list_buckets()

    def get_object(self, bucket: str, key: str, size: int = 0, type: int = 0, label: str = "") -> DataObject:  # noqa: A002, ARG002
        """Open an object for reading: :meth:`open` under the original's name. Its tuning arguments have no effect."""
        return self._native_client.open(*check_object(bucket, key))

    def put_object(self, bucket: str, key: str) -> Writer:
        """Open an object for writing: :meth:`writer` under the original's name."""
        return self._native_client.writer(*check_object(bucket, key), headers=self._write_headers(None))

    def head_object(self, bucket: str, key: str) -> DataObject:
        """Return an object's description: :meth:`head` under the original's name."""
        return self._native_client.head(*check_object(bucket, key))

    def rename_object(self, bucket: str, key: str, new_bucket: str, new_key: str) -> DataObject:
        """Copy an object, delete the source and return the new description: OSS has no other way to rename.

        If it fails, the source still exists.
        """
        client = self._native_client
        check_object(bucket, key)
        check_object(new_bucket, new_key)
        if (bucket, key) == (new_bucket, new_key):
            return client.head(bucket, key)
        self._copy((bucket, key), (new_bucket, new_key))
        renamed = client.head(new_bucket, new_key)
        client.delete(bucket, key)
        return renamed

    def remove_object(self, bucket: str, key: str) -> None:
        """Delete an object: :meth:`delete` under the original's name."""
        self._native_client.delete(*check_object(bucket, key))

    def list_objects(self, bucket: str, prefix: str = "") -> ObjectListing:
        """List objects: :meth:`list` under the original's name."""
        return self._native_client.list(check_bucket(bucket), prefix)

    def _get_bounded(self, uri: str, limit: int) -> bytes:
        return self._native_client.get(*split_object(uri), limit=limit)

    def _copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        size: int | None = None,
        progress: Callable[[int], object] | None = None,
        options: WriteOptions | None = None,
    ) -> None:
        self._native_client.copy(
            source,
            target,
            largest=_LARGEST_COPY,
            size=size,
            progress=progress,
            headers=self._write_headers(options),
        )

    def _write_headers(self, options: WriteOptions | None) -> Headers:
        defaults = self.config.write_options
        options = defaults if options is None else options.over(defaults)
        return [] if options is None else options.to_headers()

    def __repr__(self) -> str:
        """Return endpoint, region and configuration, without access keys."""
        if "_resolved" not in self.__dict__:
            # The initializer failed, and a traceback with locals shows its frame.
            return f"{type(self).__name__}(...)"
        return f"{type(self).__name__}({self.endpoint!r}, region={self.region!r}, config={self.config!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the configuration; native clients stay in their processes."""
        return {**self.__dict__, "_native_clients": PerProcess()}


class LocalClient(OssClient):
    """Files of this machine instead of objects: the file ``/bucket/key`` stands for that bucket and key.

    They can be read and listed, but not written. It uses neither the network nor an access key.
    """

    def __init__(self, config_path: str = "", *, config: OssConfig | None = None) -> None:
        """Resolve the connection arguments that files of this machine need.

        Raises:
            OssConfigError: A value is wrong, or a file is missing or malformed.
        """
        self._resolved = resolve_local(config_path, config)
        self._native_clients = PerProcess()


def connect(
    endpoint: str, cred_path: str, config_path: str, cred_provider: object, region: str, config: OssConfig | None
) -> OssClient:
    """Return a client for the connection arguments; if the endpoint is empty, one for files of this machine.

    Raises:
        OssConfigError: A value is wrong, or a file is missing or malformed.
        OssCredentialsError: There is no usable access key.
    """
    if endpoint == "":
        return LocalClient(config_path, config=config)
    return OssClient(endpoint, cred_path, config_path, cred_provider, region, config=config)


def get_bounded(client: OssClient, uri: str, limit: int) -> bytes:
    """Return the bytes of an object that describes others, and is held in memory.

    Raises:
        OssNotFoundError: The object does not exist.
        OssError: It has more than `limit` bytes, so it is something else.
    """
    return client._get_bounded(uri, limit)  # noqa: SLF001 - its own part


def _connect(resolved: ResolvedConfig) -> Client:
    write_log(resolved.config)
    proxy = resolved.proxy.proxy_for(resolved.endpoint)
    if proxy is not None:
        _logger.info(
            "requests to %s go through the proxy %s:%d of %s", resolved.endpoint, proxy.host, proxy.port, proxy.origin
        )
    return Client(
        endpoint=resolved.endpoint,
        region=resolved.region,
        config=resolved.config,
        credentials=resolved.credentials,
        io_threads=_io_threads(resolved.config),
        proxy=proxy,
    )


def _io_threads(config: OssConfig) -> int:
    if config.io_threads is not None:
        return config.io_threads
    if worker_share() is not None:
        # Many workers share a machine: with one thread each, the processors are free for decoding.
        return 1
    return max(1, min(_MOST_IO_THREADS, (os.cpu_count() or 1) // 2))
