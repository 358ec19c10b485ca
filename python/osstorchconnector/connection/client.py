"""The client: configuration that pickles, and a native client that does not."""

import atexit
import builtins
import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from osstorchconnector._native import (
    Client,
    DataObject,
    ObjectListing,
    OssReader,
    Writer,
    end_uploads,
)
from osstorchconnector.connection.conditions import condition_headers
from osstorchconnector.connection.config import OssConfig, resolve, resolve_local
from osstorchconnector.connection.native_client import native_client
from osstorchconnector.connection.object_operations import ObjectOperations
from osstorchconnector.connection.original_methods import OriginalMethods
from osstorchconnector.connection.seekable_writer import SPOOL_LIMIT, SeekableWriter
from osstorchconnector.connection.stats import ClientStats, stats
from osstorchconnector.connection.uri import check_bucket, split_object, split_prefix
from osstorchconnector.connection.write_options import Headers, WriteOptions, check_options
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.owner import PerProcess

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Alibaba's own SDKs copy larger objects in parts. One request may copy up to 1 GiB, but OSS sends nothing before all of
# it is copied, and the client limits silence.
_LARGEST_COPY: Final = 200 << 20

# How long the end of the interpreter waits until unfinished uploads are aborted: time for a request and two retries.
_END_SECONDS: Final = 5.0

atexit.register(end_uploads, _END_SECONDS)


@guards_methods
class OssClient(ObjectOperations, OriginalMethods):
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
        uuid: object = "",
        id: int | str = 0,  # noqa: A002 - the original's name
        total: int = 1,
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
            uuid: Accepted as the original does, without effect. Anything but a text, a UUID or None is taken as
                `cred_provider`, and a text as `id` after it as `region`: they once had these places.
            id: Which share of the objects the iterators with ``preload`` in their name deliver, from 0. All processes
                must list or name the same objects, in the same order.
            total: Of how many shares.
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
        if isinstance(uuid, str) or uuid is None or _is_uuid(uuid):
            provider = cred_provider
        elif cred_provider is None:
            provider = uuid
        else:
            raise OssConfigError(f"uuid must be a text, not {type(uuid).__name__}; cred_provider is another argument")
        # It may be the keys themselves, and frames of errors are shown.
        uuid = None
        if isinstance(id, str):
            region, id = region or id, 0  # noqa: A001 - the original's name
        if not 0 <= id < total:
            raise OssConfigError(f"id={id} of total={total}: 0 <= id < total is needed")
        self._share = (id, total)
        self._resolved = resolve(endpoint, cred_path, config_path, provider, region, config)
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
        return self._native_clients.get(lambda: native_client(self._resolved))

    def head(self, uri: str) -> DataObject:
        """Return an object's description: size and ETag. Its bytes are fetched when it is read.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        return self._native_client.head(*split_object(uri))

    def get(
        self,
        uri: str,
        start: int | None = None,
        end: int | None = None,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
    ) -> bytes:
        """Return an object's bytes.

        Args:
            uri: The object.
            start: The first byte. Default: 0.
            end: The byte after the last one. Default: the object's size.
            if_match: Only if the object has this ETag.
            if_none_match: Only if the object has another ETag.
            if_modified_since: Only if the object was written after this time.
            if_unmodified_since: Only if the object was not written after this time.

        Raises:
            OssNotFoundError: The object does not exist.
            OssConfigError: The range or a condition is invalid.
            OssError: The object does not meet a condition. The code is ``"NotModified"`` (status 304) for
                `if_none_match` and `if_modified_since`, and ``"PreconditionFailed"`` (status 412) for the others.
        """
        conditions = condition_headers(if_match, if_none_match, if_modified_since, if_unmodified_since)
        if (start or 0) < 0 or (end is not None and end < (start or 0)):
            shown = f"{start or 0}–{'' if end is None else end}"  # noqa: RUF001 - a dash, since numbers may be negative
            raise OssConfigError(f"invalid range {shown} for {uri}: 0 <= start <= end is needed")
        return self._native_client.get(*split_object(uri), start, end, conditions=conditions)

    def put(
        self,
        uri: str,
        data: "Buffer",
        *,
        content_type: str | None = None,
        forbid_overwrite: bool | None = None,
        options: WriteOptions | None = None,
    ) -> str:
        """Create or replace an object and return its ETag. An object above ``part_size`` is uploaded in parts.

        Args:
            uri: The object.
            data: Bytes or any object with a contiguous buffer.
            content_type: The media type to store. Default: what the service assumes.
            forbid_overwrite: Fail if the object exists. Default: what `options` and the configuration say.
            options: How it is stored. What is left out comes from ``OssConfig.write_options``.

        Raises:
            OssExistsError: The object exists and must not be overwritten.
            OssError: The object was not stored.
        """
        bucket, key = split_object(uri)
        given = WriteOptions(content_type=content_type, forbid_overwrite=forbid_overwrite)
        given = given.over(check_options("options", options))
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

    def _writer_after(
        self, uri: str, size: int, after: tuple[str, builtins.list[tuple[str, int, int | None]]] | None
    ) -> Writer:
        """Return a writer that continues an upload after its first parts."""
        headers = self._write_headers(None)
        return self._native_client.writer(*split_object(uri), size, headers=headers, after=after)

    def create_bucket(self, name: str) -> None:
        """Create a bucket. It is no error if this account already has it."""
        self._native_client.create_bucket(check_bucket(name))

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""
        self._native_client.delete_bucket(check_bucket(name))

    def list_buckets(self) -> builtins.list[str]:
        """Return the names of this account's buckets, in order."""
        return self._native_client.list_buckets()

    def stats(self) -> ClientStats:
        """Return what the clients of this process have done so far: requests, bytes, retries, times.

        It counts all clients of the process together, and no other process: for the time of a dataset and its workers
        see the dataset's ``stats()``.
        """
        return stats()

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

    def _write_options(self, options: WriteOptions | None) -> WriteOptions:
        defaults = self.config.write_options
        check_options("options", options)
        if options is None:
            return WriteOptions() if defaults is None else defaults
        return options.over(defaults)

    def _write_headers(self, options: WriteOptions | None) -> Headers:
        return self._write_options(options).to_headers()

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
        self._share = (0, 1)
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
    return OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)


def _is_uuid(value: object) -> bool:
    # Without an import: while there is a value of the class, its module is loaded.
    module = sys.modules.get("uuid")
    return module is not None and isinstance(value, module.UUID)


def get_bounded(client: OssClient, uri: str, limit: int) -> bytes:
    """Return the bytes of an object that describes others, and is held in memory.

    Raises:
        OssNotFoundError: The object does not exist.
        OssError: It has more than `limit` bytes, so it is something else.
    """
    return client._get_bounded(uri, limit)  # noqa: SLF001 - its own part
