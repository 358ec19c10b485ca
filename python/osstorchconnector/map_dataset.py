"""The map dataset: objects by index."""

import operator
from collections.abc import Callable, Iterable
from typing import Any, Self, SupportsIndex

from torch.utils.data import Dataset

from osstorchconnector._client import OssClient
from osstorchconnector._config import OssConfig
from osstorchconnector._manifest import ManifestParser
from osstorchconnector._native import DataObject, Listing, ObjectTable, Order
from osstorchconnector._source import ManifestSource, ObjectsSource, PrefixSource, Source
from osstorchconnector._transform import TransformedStream, apply, identity

__all__ = ["OssMapDataset"]


class OssMapDataset(Dataset[Any]):
    """Objects in OSS as a map-style dataset: build one with a method ``from_...``.

    A prefix is listed once, at the first use of the length or of an object, into a temporary file that the workers of a
    ``DataLoader`` share. A batch of indices is fetched concurrently.
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
        self._listed: ObjectTable | Listing | None = None

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
                reads.
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
            oss_uri: The prefix, like ``oss://bucket/prefix/``. It is listed once, when it is needed first.
            endpoint: Endpoint of the bucket's region, as in :class:`OssClient`.
            cred_path: JSON file with an access key.
            cred_provider: Object with a method ``get_credentials()``; it wins over ``cred_path``.
            config_path: JSON configuration file.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                reads.
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
                :func:`line_manifest_parser`, :func:`imagenet_manifest_parser` or one of your own. It is
                called once, when the dataset is first used.
            oss_base_uri: What stands before each key, like ``oss://bucket/prefix/``. A key that begins with
                ``oss://`` is taken as it is.
            endpoint: Endpoint of the bucket's region, as in :class:`OssClient`.
            cred_path: JSON file with an access key.
            cred_provider: Object with a method ``get_credentials()``; it wins over ``cred_path``.
            config_path: JSON configuration file.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                reads.
            region: Region ID. Empty: ``OSS_REGION`` in the environment, else what the endpoint tells.
            config: Everything else.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = ManifestSource.from_file(manifest_file_path, manifest_parser, oss_base_uri)
        return cls(OssClient(endpoint, cred_path, config_path, cred_provider, region, config=config), source, transform)

    @property
    def _rows(self) -> ObjectTable | Listing:
        if self._listed is None:
            self._listed = self._source.rows(self._client._native_client)  # noqa: SLF001
        return self._listed

    def __getstate__(self) -> dict[str, Any]:
        """Return the configuration; the source takes the listing along where it may."""
        return {**self.__dict__, "_listed": None}

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._rows)

    def __getitem__(self, index: SupportsIndex) -> Any:  # noqa: ANN401 - the transform decides
        """Return the object at an index, transformed. A negative index counts from the end.

        Raises:
            IndexError: There is no such index.
            OssError: The object could not be fetched.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """Fetch objects concurrently and return them transformed, in the order of the indices.

        This is what a ``DataLoader`` calls for a batch.

        Raises:
            IndexError: There is no such index.
            OssError: One of the objects could not be fetched.
        """
        rows = self._rows
        positions = [_position(index, len(rows)) for index in indices]
        objects = self._client._native_client.fetch(rows, positions)  # noqa: SLF001
        return [apply(self._transform, item) for item in objects]

    def __iter__(self) -> TransformedStream[Any]:
        """Return an iterator over all objects in order, which fetches them ahead."""
        stream = self._client._native_client.stream(self._rows, Order())  # noqa: SLF001
        return TransformedStream(stream, self._transform)


def _position(index: SupportsIndex, length: int) -> int:
    position = operator.index(index)
    if not -length <= position < length:
        raise IndexError(f"index {position} is out of range: the dataset has {length} objects")
    return position + length if position < 0 else position
