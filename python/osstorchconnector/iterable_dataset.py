"""The iterable dataset: objects stream past in order."""

from collections.abc import Callable, Iterable
from typing import Any, Self

from torch.utils.data import IterableDataset

from osstorchconnector._client import OssClient
from osstorchconnector._config import OssConfig
from osstorchconnector._manifest import ManifestParser
from osstorchconnector._native import DataObject
from osstorchconnector._sharding import WHOLE, worker_shard
from osstorchconnector._source import ManifestSource, ObjectsSource, PrefixSource, Source
from osstorchconnector._transform import TransformedStream, identity

__all__ = ["OssIterableDataset"]


class OssIterableDataset(IterableDataset[Any]):
    """Objects in OSS as an iterable-style dataset: build one with a method ``from_...``.

    Objects are fetched ahead, many at a time, and delivered in order. In a ``DataLoader`` with W workers, worker w
    delivers the objects i with ``i % W == w``, so that every object is delivered exactly once. Where an object cannot
    be fetched, its error is raised in its place, and the iteration can go on with the next.
    """

    def __init__(
        self,
        client: OssClient,
        source: Source,
        transform: Callable[[DataObject], Any] = identity,
    ) -> None:
        """Hold the parts; the class methods build them from what users have."""
        super().__init__()
        self._client = client
        self._source = source
        self._transform = transform

    @classmethod
    def from_objects(
        cls,
        object_uris: str | Iterable[str],
        endpoint: str,
        *,
        cred_path: str = "",
        cred_provider: object = None,
        config_path: str = "",
        transform: Callable[[DataObject], Any] = identity,
        region: str = "",
        config: OssConfig | None = None,
    ) -> Self:
        """Build a dataset of named objects, in the order in which they are named. The network is not used.

        Args:
            object_uris: One URI or several, like ``oss://bucket/key``.
            endpoint: Endpoint of the bucket's region, as in :class:`OssClient`.
            cred_path: JSON file with an access key.
            cred_provider: Object with a method ``get_credentials()``; it wins over ``cred_path``.
            config_path: JSON configuration file.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                iterates.
            region: Region ID. Empty: ``OSS_REGION`` in the environment, else what the endpoint tells.
            config: Everything else.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = ObjectsSource.from_uris(object_uris)
        return cls(OssClient(endpoint, cred_path, config_path, cred_provider, region, config=config), source, transform)

    @classmethod
    def from_prefix(
        cls,
        oss_uri: str,
        endpoint: str,
        *,
        cred_path: str = "",
        cred_provider: object = None,
        config_path: str = "",
        transform: Callable[[DataObject], Any] = identity,
        region: str = "",
        config: OssConfig | None = None,
    ) -> Self:
        """Build a dataset of the objects under a prefix, in key order. The network is not used.

        Args:
            oss_uri: The prefix, like ``oss://bucket/prefix/``. It is listed once, by the first iteration.
            endpoint: Endpoint of the bucket's region, as in :class:`OssClient`.
            cred_path: JSON file with an access key.
            cred_provider: Object with a method ``get_credentials()``; it wins over ``cred_path``.
            config_path: JSON configuration file.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                iterates.
            region: Region ID. Empty: ``OSS_REGION`` in the environment, else what the endpoint tells.
            config: Everything else.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = PrefixSource.from_uri(oss_uri)
        return cls(OssClient(endpoint, cred_path, config_path, cred_provider, region, config=config), source, transform)

    @classmethod
    def from_manifest_file(
        cls,
        manifest_file_path: str,
        manifest_parser: ManifestParser | None,
        oss_base_uri: str,
        endpoint: str,
        *,
        cred_path: str = "",
        cred_provider: object = None,
        config_path: str = "",
        transform: Callable[[DataObject], Any] = identity,
        region: str = "",
        config: OssConfig | None = None,
    ) -> Self:
        """Build a dataset of the objects that a manifest names, in its order. The network is not used.

        Args:
            manifest_file_path: Local path, or the URI of an object.
            manifest_parser: Called with the manifest as a binary stream, yields the key and the label of each object:
                :func:`line_manifest_parser`, :func:`imagenet_manifest_parser` or one of your own. One worker
                parses as it reads, for all.
            oss_base_uri: What stands before each key, like ``oss://bucket/prefix/``. A key that begins with
                ``oss://`` is taken as it is.
            endpoint: Endpoint of the bucket's region, as in :class:`OssClient`.
            cred_path: JSON file with an access key.
            cred_provider: Object with a method ``get_credentials()``; it wins over ``cred_path``.
            config_path: JSON configuration file.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                iterates.
            region: Region ID. Empty: ``OSS_REGION`` in the environment, else what the endpoint tells.
            config: Everything else.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = ManifestSource.from_file(manifest_file_path, manifest_parser, oss_base_uri)
        return cls(OssClient(endpoint, cred_path, config_path, cred_provider, region, config=config), source, transform)

    def __iter__(self) -> TransformedStream[Any]:
        """Start to fetch this worker's objects, or all of them outside of a ``DataLoader`` worker.

        Raises:
            OssError: While iterating, in the place of an object that cannot be fetched.
        """
        shard = worker_shard() or WHOLE
        return TransformedStream(self._source.stream(self._client._native_client, shard), self._transform)  # noqa: SLF001
