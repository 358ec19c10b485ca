"""The map dataset: objects by index."""

import contextlib
import operator
from collections.abc import Callable, Iterable
from typing import Any, Self, SupportsIndex, Unpack

from torch.utils.data import Dataset

import osstorchconnector._torch  # noqa: F401 - checks the version of torch
from osstorchconnector._native import DataObject, ObjectStream
from osstorchconnector.connection.client import OssClient, connect
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.dataset.failure_counts import FailureCounts
from osstorchconnector.dataset.iteration import NEIGHBOURS, Iteration
from osstorchconnector.dataset.listing import SharedListing
from osstorchconnector.dataset.manifest import ManifestParser
from osstorchconnector.dataset.options import FailureClass, MapOptions, Options
from osstorchconnector.dataset.outcome import Outcome, Outcomes, apply, call, identity
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.read_ahead import ReadAhead
from osstorchconnector.dataset.reader_order import ReaderOrder
from osstorchconnector.dataset.reader_position import ReaderPosition
from osstorchconnector.dataset.sources import ManifestSource, ObjectsSource, PrefixSource, Source, TarSource

__all__ = ["OssMapDataset"]


class OssMapDataset(Dataset[Any]):
    """Objects in OSS as a map-style dataset: build one with a method ``from_...``.

    A prefix is listed once, at the first use of the length or of an object, into a listing file that the workers of a
    ``DataLoader`` read too. The objects of a batch are fetched concurrently.
    """

    def __init__(
        self,
        client: OssClient,
        source: Source,
        transform: Callable[[DataObject], Any] = identity,
        options: Options = Options(),  # noqa: B008 - it is frozen
    ) -> None:
        """Hold the parts; the class methods build them from their arguments."""
        super().__init__()
        self._transform = transform
        self._options = options
        self._directory = PrivateDirectory()
        self._counts = FailureCounts(self._directory)
        self._read_ahead = ReadAhead()
        self._listing = SharedListing(source, client, self._directory, directory_markers=options.directory_markers)

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
        **options: Unpack[MapOptions],
    ) -> Self:
        """Build a dataset of named objects, in the order in which they are named. The network is not used.

        Args:
            object_uris: One URI or several, like ``oss://bucket/key``.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`.
            transform: Makes a sample of each object, in the process that reads it. Default: the object itself.
            **options: See :class:`MapOptions`.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = ObjectsSource.from_uris(object_uris, local=endpoint == "")
        checked = Options.of_map(options)
        client = connect(endpoint, cred_path, config_path, cred_provider, region, config)
        return cls(client, source, transform, checked)

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
        **options: Unpack[MapOptions],
    ) -> Self:
        """Build a dataset of the objects under a prefix, in key order. The network is not used.

        Args:
            oss_uri: The prefix, like ``oss://bucket/prefix/``. It is listed once, when it is needed first.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`.
            transform: Makes a sample of each object, in the process that reads it. Default: the object itself.
            **options: See :class:`MapOptions`.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = PrefixSource.from_uri(oss_uri, local=endpoint == "")
        checked = Options.of_map(options)
        client = connect(endpoint, cred_path, config_path, cred_provider, region, config)
        return cls(client, source, transform, checked)

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
        **options: Unpack[MapOptions],
    ) -> Self:
        """Build a dataset of the objects that a manifest names, in its order. The network is not used.

        Args:
            manifest_file_path: Local path, or the URI of an object.
            manifest_parser: A function that gets the manifest as a binary stream, and yields key and label of each
                object, or key, label, size and ETag: :func:`line_manifest_parser`, :func:`imagenet_manifest_parser` or
                your own. None: lines, or the output of ``osst manifest``. It is called once, when the dataset is first
                used.
            oss_base_uri: The beginning of each URI, like ``oss://bucket/prefix/``; the key follows it. A key that
                begins with ``oss://`` is a complete URI.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`.
            transform: Makes a sample of each object, in the process that reads it. Default: the object itself.
            **options: See :class:`MapOptions`.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = ManifestSource.from_file(manifest_file_path, manifest_parser, oss_base_uri, local=endpoint == "")
        checked = Options.of_map(options)
        client = connect(endpoint, cred_path, config_path, cred_provider, region, config)
        return cls(client, source, transform, checked)

    @classmethod
    def from_tar(
        cls,
        tar_uri: str,
        tar_index_uri: str | None,
        endpoint: str,
        *,
        cred_path: str = "",
        cred_provider: object = None,
        config_path: str = "",
        transform: Callable[[DataObject], Any] = identity,
        region: str = "",
        config: OssConfig | None = None,
        **options: Unpack[MapOptions],
    ) -> Self:
        """Build a dataset of the files in a tar archive, in its order. The network is not used.

        Args:
            tar_uri: The archive, like ``oss://bucket/train.tar``: a tar file that is not compressed.
            tar_index_uri: The URI or the local path of its index, which :func:`generate_tar_archive` makes. Empty or
                None: the headers in the archive are read instead, one after the other.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`.
            transform: Makes a sample of each object, in the process that reads it. Default: the object itself.
            **options: See :class:`MapOptions`.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        checked = Options.of_map(options)
        source = TarSource.from_uris(tar_uri, tar_index_uri, local=endpoint == "")
        client = connect(endpoint, cred_path, config_path, cred_provider, region, config)
        return cls(client, source, transform, checked)

    @property
    def error_counts(self) -> dict[FailureClass, int]:
        """How many objects could not be delivered so far, by failure class, in this process and in all workers."""
        return self._counts.read()

    def __len__(self) -> int:
        """Return the number of objects."""
        return self._listing.wait().count

    def __getitem__(self, index: SupportsIndex) -> Any:  # noqa: ANN401 - the transform decides
        """Return the object at an index, transformed. A negative index counts from the end.

        Raises:
            IndexError: There is no such index.
            OssError: The object could not be fetched.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """Fetch objects concurrently and return them transformed, in the order of the indices.

        A ``DataLoader`` calls this for a batch. If batches come in order, as without ``shuffle=True``, the next one is
        prefetched, within half of ``prefetch_bytes``.

        If an object fails and ``on_error`` is ``"substitute"``, the next good object of the batch takes its place. If
        there is none, the previous good object of the batch does, or the object at the next or the previous index.

        Raises:
            IndexError: There is no such index.
            OssError: One of the objects could not be fetched.
        """
        count = self._listing.wait().count
        row_indices = [_row_index(index, count) for index in indices]
        stream = self._read_ahead.take(row_indices) or self._listing.stream_at(row_indices)
        with contextlib.closing(self._outcomes(stream)) as found:
            self._read_ahead.foresee(
                row_indices, count, lambda following: self._listing.stream_at(following, ahead=True)
            )
            outcomes = []
            for _ in row_indices:
                _, failed, _ = outcome = found.read()
                if failed is not None:
                    self._counts.add(failed.failure_class, failed.error)
                    if self._options.policy.action(failed.failure_class) == "raise":
                        raise failed.error
                    self._counts.check(self._options.policy, failed.error)
                outcomes.append(outcome)
        return [self._delivered(row_indices, outcomes, number) for number in range(len(row_indices))]

    def _outcomes(self, stream: ObjectStream) -> Outcomes:
        return Outcomes(stream, self._transform, keep=self._options.policy.has("substitute"))

    def _delivered(self, row_indices: list[int], outcomes: list[Outcome], number: int) -> Any:  # noqa: ANN401
        value, failed, item = outcomes[number]
        if failed is None:
            return value
        action = self._options.policy.action(failed.failure_class)
        if callable(action) and item is not None:
            return call(action, failed.error, item)
        for _, unfit, good in (*outcomes[number + 1 :], *reversed(outcomes[:number])):
            if unfit is None and good is not None:
                return apply(self._transform, good.copy())
        beside = (row_indices[number] + 1, row_indices[number] - 1)
        neighbours = [index for index in beside if 0 <= index < self._listing.rows.count]
        with contextlib.closing(self._outcomes(self._listing.stream_at(neighbours))) as found:
            for _ in neighbours:
                value, unfit, _ = found.read()
                if unfit is None:
                    return value
        failed.error.add_note("on_error='substitute' found no object to take its place in the batch or beside it")
        raise failed.error

    def __iter__(self) -> Iteration[Any]:
        """Return an iterator over all objects in order, which fetches them ahead."""
        listing = self._listing
        rows = listing.wait()
        policy = self._options.policy
        return Iteration(
            Outcomes(listing.stream(ReaderOrder().formula()), self._transform, keep=policy.has("substitute")),
            policy,
            self._counts,
            ReaderPosition(ReaderOrder(), 0, rows, None),
            NEIGHBOURS,
            lambda position: next(listing.stream_at([position])),
        )


def _row_index(index: SupportsIndex, length: int) -> int:
    row = operator.index(index)
    if not -length <= row < length:
        raise IndexError(f"index {row} is out of range: the dataset has {length} objects")
    return row + length if row < 0 else row
