"""The map dataset: objects by index."""

import contextlib
import operator
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, Final, Self, SupportsIndex, Unpack

from torch.utils.data import Dataset

import osstorchconnector._torch  # noqa: F401 - checks the version of torch
from osstorchconnector._native import DataObject, ObjectStream, Stopwatch
from osstorchconnector.connection import spans
from osstorchconnector.connection.client import OssClient, connect
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.dataset.copies import deep_copy
from osstorchconnector.dataset.description import Description
from osstorchconnector.dataset.failure_counts import FailureCounts
from osstorchconnector.dataset.iteration import NEIGHBOURS, Iteration
from osstorchconnector.dataset.listing import SharedListing
from osstorchconnector.dataset.manifest import ManifestParser
from osstorchconnector.dataset.options import FailureClass, MapOptions, Options
from osstorchconnector.dataset.outcome import Outcome, Outcomes, Stream, apply, call, identity
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.read_ahead import ReadAhead
from osstorchconnector.dataset.reader_order import ReaderOrder
from osstorchconnector.dataset.reader_position import ReaderPosition
from osstorchconnector.dataset.reading_time import Pass, ReadingTime
from osstorchconnector.dataset.sources import ManifestSource, ObjectsSource, PrefixSource, Source, TarSource
from osstorchconnector.dataset.stats import DatasetStats

__all__ = ["OssMapDataset"]


@guards_methods
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
        self._reading = ReadingTime(self._directory, type(self).__name__, self._listing.name)

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

    def is_continuous(self, indices: Sequence[int]) -> bool:
        """Return whether each index is the one before plus 1, as batches in order are."""
        return all(after - before == 1 for before, after in pairwise(indices))

    @property
    def error_counts(self) -> dict[FailureClass, int]:
        """How many objects could not be delivered so far, by failure class, in this process and in all workers."""
        return self._counts.read()

    def stats(self) -> DatasetStats:
        """Return where the time of the readers went so far, in this process and in all workers.

        Printed, it says in one sentence whether the job waits for OSS, for its transform or for the program. What
        workers did in the last half second may be missing.
        """
        return self._reading.stats()

    def __len__(self) -> int:
        """Return the number of objects."""
        return self._listing.wait().count

    def __getitem__(self, index: SupportsIndex | slice | Iterable[SupportsIndex]) -> Any:  # noqa: ANN401 - the transform decides
        """Return the object at an index, transformed; for a slice or several indices, a list of objects.

        A negative index counts from the end. The objects of a list are fetched concurrently. If a subclass overrides
        this method, batches and iterations call it for each of their objects, which are fetched ahead.

        Raises:
            IndexError: There is no such index.
            OssError: The object could not be fetched.
        """
        several = _several(index, self.__len__)
        if several is not None:
            # An override has called this method, and treats the list as a whole.
            return self._batch(several) if self._overrides("__getitem__") else self.__getitems__(several)
        single: Any = index
        if self._overrides("__getitems__") and not self._overrides("__getitem__"):
            return self.__getitems__([single])[0]
        return self._batch([single])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """Fetch objects concurrently and return them transformed, in the order of the indices.

        A ``DataLoader`` calls this for a batch. The next one is prefetched, within half of ``prefetch_bytes``: in a
        worker, which knows it, and elsewhere if batches come in order, as without ``shuffle=True``.

        If an object fails and ``on_error`` is ``"substitute"``, the next good object of the batch takes its place. If
        there is none, the previous good object of the batch does, or the object at the next or the previous index.

        Raises:
            IndexError: There is no such index.
            OssError: One of the objects could not be fetched.
        """
        if self._overrides("__getitem__"):
            listed = list(indices)
            with self._reading.batches().batch(len(listed)):
                rows = self._rows_of(listed)
                with contextlib.closing(
                    _Ahead(self, self._started(listed, rows), rows, self._reading.batches().clock)
                ) as ahead:
                    return [ahead.call(index) for index in listed]
        return self._batch(indices)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that reads the same listing."""
        return deep_copy(self, memo)

    def __repr__(self) -> str:
        """Return place, number and size of the objects if they are known, and options; no secret."""
        return self._description().text(type(self).__name__)

    def _repr_html_(self) -> str:
        return self._description().table(type(self).__name__)

    def _description(self) -> Description:
        return Description(self._listing, self._transform, self._options)

    def _overrides(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(OssMapDataset, name)

    def _rows_of(self, indices: Iterable[SupportsIndex]) -> list[int]:
        count = self._listing.wait().count
        return [_row_index(index, count) for index in indices]

    def _started(self, indices: Sequence[SupportsIndex], row_indices: list[int]) -> ObjectStream:
        ahead = self._read_ahead
        stream = ahead.take(row_indices)
        if stream is None:
            stream = self._listing.stream_at(row_indices)
        else:
            spans.adopt(stream)
        ahead.foresee(row_indices, self._listing.rows.count, self._started_ahead)
        ahead.listen(indices, self._rows_of, self._started_ahead)
        return stream

    def _started_ahead(self, row_indices: list[int]) -> ObjectStream:
        return spans.start_ahead(lambda: self._listing.stream_at(row_indices, ahead=True))

    def _batch(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        ahead = _ahead.get()
        if ahead is None or ahead.dataset is not self:
            listed = list(indices)
            with self._reading.batches().batch(len(listed)):
                row_indices = self._rows_of(listed)
                with contextlib.closing(self._started(listed, row_indices)) as stream:
                    return self._fetched(row_indices, stream, self._reading.batches().clock)
        # What called the subclass measures.
        row_indices = self._rows_of(indices)
        if ahead.brings(row_indices):
            return self._fetched(row_indices, ahead, None)
        with contextlib.closing(self._listing.stream_at(row_indices)) as stream:
            return self._fetched(row_indices, stream, None)

    def _fetched(self, row_indices: list[int], stream: Stream, clock: Stopwatch | None) -> list[Any]:
        """Return the objects of a stream, transformed; it brings them in this order."""
        found = self._outcomes(stream, clock)
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

    def _outcomes(self, stream: Stream, clock: Stopwatch | None) -> Outcomes:
        return Outcomes(stream, self._transform, keep=self._options.policy.has("substitute"), clock=clock)

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
        with contextlib.closing(self._outcomes(self._listing.stream_at(neighbours), None)) as found:
            for _ in neighbours:
                value, unfit, _ = found.read()
                if unfit is None:
                    return value
        failed.error.add_note("on_error='substitute' found no object to take its place in the batch or beside it")
        raise failed.error

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator over all objects in order, which fetches them ahead."""
        listing = self._listing
        rows = listing.wait()
        reading = self._reading.begin()
        with reading.trace():
            stream = listing.stream(ReaderOrder().formula())
        is_overridden = self._overrides("__getitem__") or self._overrides("__getitems__")
        if is_overridden:
            # Such a method is measured with all that it waits for.
            return _Items(_Ahead(self, stream, range(rows.count), reading.clock), rows.count, reading)
        reading.waited = lambda: stream.waited
        policy = self._options.policy
        return Iteration(
            self._outcomes(stream, reading.clock),
            policy,
            self._counts,
            ReaderPosition(ReaderOrder(), 0, rows, None),
            NEIGHBOURS,
            lambda position: next(listing.stream_at([position])),
            reading=reading,
        )


class _Ahead:
    """The objects that a batch or an iteration fetches ahead, for a ``__getitem__`` that a subclass overrides."""

    def __init__(self, dataset: OssMapDataset, stream: ObjectStream, rows: Sequence[int], clock: Stopwatch) -> None:
        self.dataset = dataset
        self._clock = clock
        self._stream = stream
        self._rows = rows
        self._taken = 0
        # The row of the object that was described last.
        self._number = 0

    @property
    def failed(self) -> DataObject | None:
        return self._stream.failed

    def call(self, index: SupportsIndex) -> Any:  # noqa: ANN401 - the subclass decides
        """Return the subclass's item; its calls of the base class find the object here."""
        token = _ahead.set(self)
        self._clock.start()
        try:
            return self.dataset[index]
        finally:
            self._clock.stop()
            _ahead.reset(token)
            self._number += 1

    def brings(self, row_indices: list[int]) -> bool:
        """Return whether the next object is the only one of these; objects that nobody asked for are dropped."""
        if row_indices != [self._rows[self._number]] or self._taken > self._number:
            return False
        while self._taken < self._number:
            try:
                next(self)
            except Exception:
                if self.failed is None:
                    raise
        return True

    def __next__(self) -> DataObject:
        self._taken += 1
        return next(self._stream)

    def close(self) -> None:
        self._stream.close()


class _Items(Iterator[Any]):
    """The items of a subclass in order. After an error, the next call continues with the next item."""

    def __init__(self, ahead: _Ahead, count: int, reading: Pass) -> None:
        self._ahead = ahead
        self._indices = indices = iter(range(count))
        self._count = count
        self._reading = reading
        reading.delivered = lambda: count - operator.length_hint(indices)
        # A program may leave the loop early.
        weakref.finalize(self, reading.end).atexit = False

    def __next__(self) -> Any:  # noqa: ANN401 - the subclass decides
        try:
            index = next(self._indices)
        except StopIteration:
            self._reading.end()
            raise
        self._reading.look()
        return self._ahead.call(index)

    def close(self) -> None:
        """Stop fetching ahead."""
        self._indices = iter(range(0))
        self._ahead.close()


# What the batch or the iteration that calls a subclass in this thread fetches ahead.
_ahead: Final[ContextVar[_Ahead | None]] = ContextVar("osstorchconnector_ahead", default=None)


def _several(index: object, length: Callable[[], int]) -> Iterable[SupportsIndex] | None:
    """Return the indices that a slice or a collection stands for, or None if this is one index.

    Raises:
        TypeError: It is a mask.
    """
    if isinstance(index, slice):
        return range(length())[index]
    if isinstance(index, (str, bytes)):
        return None
    try:
        # Tensors of one element are an index too, if they have no dimension.
        indices: list[Any] = list(index)  # type: ignore[call-overload]
    except TypeError:
        return None
    if any(isinstance(one, bool) or str(getattr(one, "dtype", "")).endswith("bool") for one in indices):
        raise TypeError("a mask of True and False is no index: give the indices, for instance mask.nonzero()")
    return indices


def _row_index(index: SupportsIndex, length: int) -> int:
    row = operator.index(index)
    if not -length <= row < length:
        raise IndexError(f"index {row} is out of range: the dataset has {length} objects")
    return row + length if row < 0 else row
