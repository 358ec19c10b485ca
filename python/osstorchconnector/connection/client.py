"""The client: configuration that pickles, and a native handle that does not."""

import atexit
import builtins
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector._native import (
    Client,
    DataObject,
    ObjectListing,
    OssReader,
    Writer,
    end_uploads,
)
from osstorchconnector.connection.config import Connection, OssConfig, resolve, resolve_local
from osstorchconnector.connection.log import write_log
from osstorchconnector.connection.uri import check_bucket, check_object, split_object, split_prefix
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.owner import PerProcess
from osstorchconnector.process.worker import worker_shard

if TYPE_CHECKING:
    from typing_extensions import Buffer

# One thread moves 3 to 4 GB/s; eight are more than any network card of a machine that trains.
_MOST_IO_THREADS: Final = 8

# Where Alibaba's own SDKs begin to copy in parts. One request would take up to 1 GiB, but sends nothing before it has
# copied all of it, and silence is limited.
_LARGEST_COPY: Final = 200 << 20

# The end of the interpreter waits so long for unfinished uploads to be taken back: a request that is tried again twice.
_END_SECONDS: Final = 5.0

atexit.register(end_uploads, _END_SECONDS)


class OssClient:
    """A connection to OSS for single operations on buckets and objects.

    It holds configuration only. The native client behind it is made at the first use in each process, so that a client
    may be built before a fork, or be pickled to start a worker. An access key given in the program, or a provider
    object, is pickled only to start a process; ``cred_path`` and environment variables travel by name.
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
                a scheme: HTTPS, or HTTP for an IP address or ``localhost``.
            cred_path: JSON file with ``AccessKeyId``, ``AccessKeySecret`` and optionally ``SecurityToken`` and
                ``Expiration``.
            config_path: JSON configuration file.
            cred_provider: Object with a method ``get_credentials()``, as the OSS SDKs have them, or a source of
                :mod:`osstorchconnector.credentials`. It wins over ``cred_path``. Where neither is given, nor a key in
                `config`: :class:`osstorchconnector.credentials.DefaultCredentials`.
            region: Region ID such as ``cn-hangzhou``. Empty: ``OSS_REGION`` in the environment, else what the endpoint
                tells.
            config: Everything else.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        self._connection = resolve(endpoint, cred_path, config_path, cred_provider, region, config)
        self._native_clients: PerProcess[Client] = PerProcess()

    @property
    def endpoint(self) -> str:
        """The endpoint, with its scheme."""
        return self._connection.endpoint

    @property
    def region(self) -> str:
        """The region requests are signed for."""
        return self._connection.region

    @property
    def config(self) -> OssConfig:
        """The resolved configuration, without its access key."""
        return self._connection.config

    @property
    def _native_client(self) -> Client:
        return self._native_clients.get(lambda: _connect(self._connection))

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
            start: First byte wanted. Default: the first.
            end: First byte no longer wanted. Default: the object's size.

        Raises:
            OssNotFoundError: The object does not exist.
            OssConfigError: The range is negative or runs backwards.
        """
        if (start or 0) < 0 or (end is not None and end < (start or 0)):
            raise OssConfigError(f"no range of {uri!r} starts at {start} and ends before {end}")
        return self._native_client.get(*split_object(uri), start, end)

    def put(self, uri: str, data: "Buffer", *, content_type: str | None = None, forbid_overwrite: bool = False) -> str:
        """Create or replace an object and return its ETag. Above ``part_size`` it is uploaded in parts.

        Args:
            uri: The object.
            data: Bytes or any object with a contiguous buffer.
            content_type: The media type to store. Default: what the service assumes.
            forbid_overwrite: Fail where the object exists.

        Raises:
            OssError: The object was not stored; with ``code="FileAlreadyExists"`` where it exists and must not be
                overwritten.
        """
        bucket, key = split_object(uri)
        return self._native_client.put(bucket, key, data, content_type=content_type, forbid_overwrite=forbid_overwrite)

    def delete(self, uri: str) -> None:
        """Delete an object. It is no error where there is none."""
        self._native_client.delete(*split_object(uri))

    def delete_many(self, uris: Iterable[str]) -> None:
        """Delete objects, up to a thousand per request. It is no error where one does not exist."""
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
    ) -> None:
        """Copy an object of any size inside the service, in the same region, with its media type, metadata and tags.

        Above 200 MiB it is copied in parts. The copy is of one version of the source, and appears whole or not at all.

        Args:
            source_uri: The object.
            uri: Where to.
            size: The source's size in bytes where it is known, which saves a request.
            progress: Is told, in this thread, how many more bytes were copied. What it raises ends the copy.

        Raises:
            OssNotFoundError: The source does not exist.
            OssIntegrityError: The source was replaced meanwhile, or the copy has another checksum.
        """
        self._copy(split_object(source_uri), split_object(uri), size, progress)

    def list(self, uri: str) -> ObjectListing:
        """List the objects under a prefix in key order, as descriptions whose bytes are fetched when they are read."""
        return self._native_client.list(*split_prefix(uri))

    def open(self, uri: str) -> DataObject:
        """Open an object for reading; its bytes are fetched as they are read.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        return self._native_client.open(*split_object(uri))

    def reader(self, uri: str) -> OssReader:
        """Open an object for fast reading: sequentially, at any place, or into memory of the caller's.

        Only its description is asked for now. Every byte comes from the version that is there now.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        return self._native_client.reader(*split_object(uri))

    def writer(self, uri: str, size_hint: int | None = None) -> Writer:
        """Open an object for writing. It appears, or is replaced, when the writer is closed without an exception.

        Args:
            uri: The object.
            size_hint: About how many bytes will be written. It makes the parts of one size from the start, and only an
                object of more than 8 TiB needs it. It is no limit.

        Raises:
            OssConfigError: `uri` names no object, or OSS has no objects as large as the hint.
        """
        if size_hint is not None and not 0 <= size_hint < 1 << 63:
            raise OssConfigError(f"size_hint is {size_hint}: a number of bytes that an object can have is needed")
        return self._native_client.writer(*split_object(uri), size_hint)

    def create_bucket(self, name: str) -> None:
        """Create a bucket. It is no error where it is this account's already."""
        self._native_client.create_bucket(check_bucket(name))

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""
        self._native_client.delete_bucket(check_bucket(name))

    def list_buckets(self) -> builtins.list[str]:
        """Return the names of this account's buckets, in order."""
        return self._native_client.list_buckets()

    def get_object(self, bucket: str, key: str, size: int = 0, type: int = 0, label: str = "") -> DataObject:  # noqa: A002, ARG002
        """Open an object for reading: :meth:`open` under the original's name, whose tuning arguments are accepted."""
        return self._native_client.open(*check_object(bucket, key))

    def put_object(self, bucket: str, key: str) -> Writer:
        """Open an object for writing: :meth:`writer` under the original's name."""
        return self._native_client.writer(*check_object(bucket, key))

    def head_object(self, bucket: str, key: str) -> DataObject:
        """Return an object's description: :meth:`head` under the original's name."""
        return self._native_client.head(*check_object(bucket, key))

    def rename_object(self, bucket: str, key: str, new_bucket: str, new_key: str) -> DataObject:
        """Copy an object and delete the source, which is what a rename is on OSS; return the new description.

        Where it fails, the source is still there.
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

    def _copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        size: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self._native_client.copy(source, target, largest=_LARGEST_COPY, size=size, progress=progress)

    def __repr__(self) -> str:
        """Return endpoint, region and configuration, without access keys."""
        return f"{type(self).__name__}({self.endpoint!r}, region={self.region!r}, config={self.config!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the configuration: the native client stays in its process."""
        return {**self.__dict__, "_native_clients": PerProcess()}


class LocalClient(OssClient):
    """Files of this machine in the place of objects: bucket and key are the absolute path ``/bucket/key``.

    They are read and listed, and not written. Neither the network nor an access key is used.
    """

    def __init__(self, config_path: str = "", *, config: OssConfig | None = None) -> None:
        """Resolve the configuration.

        Args:
            config_path: JSON configuration file.
            config: Everything else.

        Raises:
            OssConfigError: A value is wrong, or a file is missing or malformed.
        """
        self._connection = resolve_local(config_path, config)
        self._native_clients = PerProcess()


def connect(
    endpoint: str, cred_path: str, config_path: str, cred_provider: object, region: str, config: OssConfig | None
) -> OssClient:
    """Return a client of an endpoint; where it is empty, of this machine's files.

    Raises:
        OssConfigError: A value is wrong, or a file is missing or malformed.
        OssCredentialsError: There is no usable access key.
    """
    if endpoint == "":
        return LocalClient(config_path, config=config)
    return OssClient(endpoint, cred_path, config_path, cred_provider, region, config=config)


def _connect(connection: Connection) -> Client:
    write_log(connection.config)
    return Client(
        endpoint=connection.endpoint,
        region=connection.region,
        config=connection.config,
        credentials=connection.credentials,
        io_threads=_io_threads(connection.config),
    )


def _io_threads(config: OssConfig) -> int:
    if config.io_threads is not None:
        return config.io_threads
    if worker_shard() is not None:
        # Many workers share a machine: one thread each keeps its processors for decoding.
        return 1
    return max(1, min(_MOST_IO_THREADS, (os.cpu_count() or 1) // 2))
