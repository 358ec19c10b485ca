"""The iterable dataset: objects stream past in order."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, Self, Unpack

import torch
from torch.utils.data import IterableDataset

from osstorchconnector._native import DataObject, ObjectStream
from osstorchconnector._torch.loader_worker import begins_again
from osstorchconnector.connection.client import OssClient, connect
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.dataset.copies import deep_copy
from osstorchconnector.dataset.description import Description, comparable
from osstorchconnector.dataset.dividers import Division
from osstorchconnector.dataset.epochs import Epochs
from osstorchconnector.dataset.failure_counts import FailureCounts
from osstorchconnector.dataset.iteration import NEIGHBOURS, Iteration
from osstorchconnector.dataset.length import known_length
from osstorchconnector.dataset.listing import SharedListing
from osstorchconnector.dataset.loaded_state import LoadedState
from osstorchconnector.dataset.loader_state import consumed_by_workers, worker_states
from osstorchconnector.dataset.manifest import ManifestParser
from osstorchconnector.dataset.options import DatasetOptions, FailureClass, Options, StreamOptions
from osstorchconnector.dataset.outcome import NoObjects, Outcomes, identity
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.rank_agreement import check_agreement
from osstorchconnector.dataset.rank_share import RankShare, ReaderShare
from osstorchconnector.dataset.reader_order import ReaderOrder
from osstorchconnector.dataset.reader_position import ReaderPosition
from osstorchconnector.dataset.reading_time import ReadingTime
from osstorchconnector.dataset.shared_state import LastIteration, SharedState
from osstorchconnector.dataset.sources import ManifestSource, ObjectsSource, PrefixSource, Source, TarSource
from osstorchconnector.dataset.state import ResumePoint, State, cursor_after, reader_state
from osstorchconnector.dataset.stats import DatasetStats
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.worker import worker_share

__all__ = ["OssIterableDataset"]

# Epochs that a word of shared memory can hold.
_EPOCHS: Final = 1 << 63
# Drawn epochs: enough that none comes twice, and few enough that the ones after them are epochs too.
_DRAWN: Final = 1 << 62


@guards_methods
class OssIterableDataset(IterableDataset[Any]):
    """Objects in OSS as an iterable-style dataset: build one with a method ``from_...``.

    Objects are prefetched, many at a time. A documented formula (docs/concepts/order.md) decides the order, from
    options, epoch, rank and worker. The ranks of a process group and the workers of a ``DataLoader`` share the objects
    between them. If an object cannot be delivered, its error is raised in its place, or ``on_error`` decides what
    happens; the iteration can continue with the next object.
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
        self._source = source
        self._transform = transform
        self._ranks = RankShare(options.shard, options.process_group, options.split_workers)
        # A process group does not pickle; a started process gets the share instead.
        self._options = replace(options, process_group=None)
        self._directory = PrivateDirectory()
        self._shared = SharedState()
        self._epochs = Epochs(
            self._directory, self._shared, advance=options.advance_epochs, shuffles=options.order_shuffle is not False
        )
        self._loaded = LoadedState(self._directory)
        self._counts = FailureCounts(self._directory)
        self._listing = SharedListing(source, client, self._directory, directory_markers=options.directory_markers)
        self._reading = ReadingTime(self._directory, type(self).__name__, self._listing.name)
        self._position: ReaderPosition | None = None

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
        **options: Unpack[DatasetOptions],
    ) -> Self:
        """Build a dataset of named objects, in the order in which they are named. The network is not used.

        Args:
            object_uris: One URI or several, like ``oss://bucket/key``.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`.
            transform: Makes a sample of each object, in the process that iterates. Default: the object itself.
            **options: See :class:`DatasetOptions`.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = ObjectsSource.from_uris(object_uris, local=endpoint == "")
        checked = Options.of_stream(options)
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
        **options: Unpack[DatasetOptions],
    ) -> Self:
        """Build a dataset of the objects under a prefix, in key order. The network is not used.

        Args:
            oss_uri: The prefix, like ``oss://bucket/prefix/``. It is listed once; see :meth:`refresh`.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`.
            transform: Makes a sample of each object, in the process that iterates. Default: the object itself.
            **options: See :class:`DatasetOptions`.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = PrefixSource.from_uri(oss_uri, local=endpoint == "")
        checked = Options.of_stream(options)
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
        **options: Unpack[DatasetOptions],
    ) -> Self:
        """Build a dataset of the objects that a manifest names, in its order. The network is not used.

        Args:
            manifest_file_path: Local path, or the URI of an object.
            manifest_parser: A function that gets the manifest as a binary stream, and yields key and label of each
                object, or key, label, size and ETag: :func:`line_manifest_parser`, :func:`imagenet_manifest_parser` or
                your own. None: lines, or the output of ``osst manifest``. It is called once, in the process that needs
                its objects first.
            oss_base_uri: The beginning of each URI, like ``oss://bucket/prefix/``; the key follows it. A key that
                begins with ``oss://`` is a complete URI.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`.
            transform: Makes a sample of each object, in the process that iterates. Default: the object itself.
            **options: See :class:`DatasetOptions`.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        source = ManifestSource.from_file(manifest_file_path, manifest_parser, oss_base_uri, local=endpoint == "")
        checked = Options.of_stream(options)
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
        shuffle: bool = False,
        shuffle_chunk_size: int = 1000,
        region: str = "",
        config: OssConfig | None = None,
        **options: Unpack[StreamOptions],
    ) -> Self:
        """Build a dataset of the files in a tar archive, in its order. The network is not used.

        Args:
            tar_uri: The archive, like ``oss://bucket/train.tar``: a tar file that is not compressed.
            tar_index_uri: The URI or the local path of its index, which :func:`generate_tar_archive` makes. Empty or
                None: the headers in the archive are read instead, one after the other.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`.
            transform: Makes a sample of each object, in the process that iterates. Default: the object itself.
            shuffle: Deliver the members in an order that seed and epoch decide: it moves chunks, and mixes the members
                inside each chunk.
            shuffle_chunk_size: Members in a chunk.
            **options: See :class:`StreamOptions`.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        checked = Options.of_archive(options, shuffle=shuffle, chunk=shuffle_chunk_size)
        source = TarSource.from_uris(
            tar_uri, tar_index_uri, local=endpoint == "", chunk=shuffle_chunk_size if shuffle else None
        )
        client = connect(endpoint, cred_path, config_path, cred_provider, region, config)
        return cls(client, source, transform, checked)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, here and in persistent workers. It decides the shuffle.

        The iteration after it has the next epoch. If this is one of several ranks, or with ``advance_epochs=False``, it
        has the same epoch, until you call this method again. If a state of another epoch was loaded and not used yet,
        it is dropped. In a worker, the call is for the next iteration of this worker.

        Args:
            epoch: At least 0.

        Raises:
            OssConfigError: It is not such a number.
        """
        if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 <= epoch < _EPOCHS:
            raise OssConfigError(f"epoch must be an integer of at least 0, not {epoch!r}")
        point = self._loaded.peek()
        if point is not None and point.order.epoch != epoch:
            self._loaded.drop()
        self._epochs.set_epoch(epoch)

    def shuffle(self, generator: torch.Generator | None = None) -> None:
        """Draw another order for the next iteration: :meth:`set_epoch` with a random number.

        Args:
            generator: What draws. Default: torch's, which ``torch.manual_seed`` sets.

        Raises:
            OssConfigError: The dataset does not shuffle, or this is one of several ranks, which must agree.
        """
        if self._options.order_shuffle is False:
            raise OssConfigError("this dataset has one order: build it with shuffle=True, and then shuffle it again")
        if self._ranks.resolve().count > 1:
            raise OssConfigError("ranks that draw an order each would read objects twice: call set_epoch on all ranks")
        self.set_epoch(int(torch.randint(_DRAWN, (), generator=generator)))

    def check_ranks(self) -> None:
        """Compare this dataset on all ranks: its arguments, its epoch, and its objects if they are listed.

        All ranks of the process group call it together, for instance before each epoch. An iteration cannot compare by
        itself, because one rank may iterate alone. The connection may differ.

        Raises:
            OssConfigError: The datasets differ. Every rank raises it; the message names what differs.
        """
        check_agreement(
            lambda: comparable(self._listing, self._transform, self._options, self._shared.epoch),
            self._ranks.process_group,
        )

    def refresh(self) -> None:
        """List or parse again at the next iteration; without this call, all iterations use one listing."""
        self._listing.refresh()

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

    def state_dict(self) -> State:
        """Return how far the iteration in this process is: a small dictionary for JSON.

        ``torchdata.stateful_dataloader.StatefulDataLoader`` calls it in the process that iterates. It belongs to this
        rank and this worker; to resume with another number of either, see :meth:`cursor` and :meth:`cursor_from`.

        Raises:
            OssConfigError: The workers of a plain ``DataLoader`` iterate, so this process does not know; or
                ``order="arrival"``.
        """
        self._need_listed_order()
        point = self._loaded.peek()
        if point is not None:
            return point.state()
        position, is_worker = self._position, worker_share() is not None
        if position is not None and position.is_here():
            is_earlier = position.has_moved and begins_again() if is_worker else position.is_of_an_earlier_iterator()
            if not is_earlier:
                return position.state().state()
        last = self._shared.last_iteration
        if last is not None and last.workers and not is_worker:
            raise OssConfigError(
                "the workers of a DataLoader iterate over this dataset, and only the program knows how much of their "
                "work it consumed: use cursor(samples_consumed=...), or torchdata's StatefulDataLoader"
            )
        order = self._order()
        order = replace(order, epoch=self._epochs.upcoming(order.world))
        return reader_state(order, 0, self._listing.rows).state()

    def load_state_dict(
        self, state: Mapping[str, Any], on_listing_change: Literal["raise", "continue"] = "raise"
    ) -> None:
        """Let the next iteration resume from a state or a cursor; the iteration after that begins at the start again.

        No object that was consumed is fetched again. The next iteration has the state's epoch; the epochs after it
        count from there, as after :meth:`set_epoch`.

        Args:
            state: The result of :meth:`state_dict`, :meth:`cursor` or :meth:`cursor_from`.
            on_listing_change: What to do if the part of the listing that decided what was consumed has changed:
                ``"raise"`` :class:`OssListingChangedError`, or ``"continue"`` at the same position.

        Raises:
            OssConfigError: This is not a state, or the state of a dataset with other options.
        """
        self._need_listed_order()
        point = ResumePoint.from_state(state, on_listing_change)
        point.check_order(self._order())
        self._loaded.load(point)
        if worker_share() is None:
            self._epochs.load_epoch(point.order.epoch)

    def cursor(self, *, samples_consumed: int) -> State:
        """Return a cursor from the program's own count: any number of ranks and workers can resume from it.

        All ranks must be at the same step. With more than one worker, the dataset needs ``batch_size``.

        Args:
            samples_consumed: Samples that the program took on this rank from the iteration that began last. That
                iteration began at the start of the epoch, or resumed from a loaded state. Between two epochs, give the
                count of the whole epoch, or call :meth:`set_epoch` and give 0.

        Raises:
            OssConfigError: The count ends inside a batch, is larger than the share, or does not define the position.
        """
        self._need_listed_order()
        if not isinstance(samples_consumed, int) or isinstance(samples_consumed, bool) or samples_consumed < 0:
            raise OssConfigError(f"samples_consumed must be an integer of at least 0, not {samples_consumed!r}")
        if self._options.policy.has("skip"):
            raise OssConfigError(
                'with on_error="skip" the number of samples does not define the position: use '
                "cursor_from(loader.state_dict()) with torchdata's StatefulDataLoader"
            )
        point = self._loaded.peek()
        if point is not None and samples_consumed == 0:
            return point.as_cursor().state()
        counted = self._counted_iteration(samples_consumed)
        if counted.divided_elsewhere:
            raise OssConfigError(
                "another program divides what the dataset delivers, so the samples of this rank do not define the "
                "position: let that program resume, or let the dataset divide, with shard= and split_workers="
            )
        if counted.workers > 1 and self._options.batch_size is None:
            raise OssConfigError(
                "with several workers the number of samples defines the position only if the dataset has the loader's "
                "batch size: build it with batch_size=..."
            )
        if counted.workers > 1 and counted.skip:
            raise OssConfigError(
                "this iteration resumed from the states of several workers, whose samples are not in the count: use "
                "cursor_from(loader.state_dict())"
            )
        order = self._order(epoch=counted.epoch, start=counted.start)
        return cursor_after(order, counted.skip + samples_consumed, self._listing.rows).state()

    def cursor_from(self, loader_state: Mapping[str, Any]) -> State:
        """Return a cursor from a ``StatefulDataLoader``'s state: any number of ranks and workers can resume from it.

        All ranks must be at the same step. With more than one worker, the dataset needs ``batch_size``.

        Args:
            loader_state: The result of the loader's ``state_dict()``, on any rank.

        Raises:
            OssConfigError: It is not such a state, or one worker is ahead of the others.
        """
        self._need_listed_order()
        rows = self._listing.rows
        states, steps = worker_states(loader_state)
        return cursor_after(*consumed_by_workers(states, steps, rows), rows).state()

    def __len__(self) -> int:
        """Return how many samples an iteration of this rank delivers, with any number of workers; in a worker, its own.

        Samples that pad the share count. If objects are skipped, fewer come. Nothing is listed for it: the number is
        known of named objects, of a snapshot, and of what was listed already.

        Raises:
            TypeError: It is not known, or a loader would compute a wrong number of batches from it.
        """
        share = self._ranks.reader()
        order = self._order(share=share)
        return known_length(
            self,
            order,
            self._listing,
            is_one_of_several=self._epochs.is_one_of_several(order.world),
            is_divider_known=bool(share.division.ranks),
            workers_share=self._options.split_workers is not False,
        )

    def __bool__(self) -> bool:
        """Return True: whether there are objects is not known before they are listed."""
        return True

    def __iter__(self) -> Iteration[Any]:
        """Start to fetch this process's share: the objects of its rank, and of its worker in a ``DataLoader``.

        Raises:
            OssConfigError: The loaded state is for other readers.
            OssError: While iterating, in the place of an object that cannot be fetched.
        """
        share = self._ranks.reader()
        self._check_dispatched(share.division)
        iteration = self._epochs.next_name()
        point = self._loaded.take(iteration)
        order = self._order(share=share)
        if point is not None and point.finished and self._loaded.is_of_an_earlier_iterator():
            # A wrapper begins late, so the iterator that had nothing left has not asked.
            self._epochs.begin(iteration, point, point.applied_to(order)[0].world)
            iteration, point = self._epochs.next_name(), None
        if point is not None:
            order, _ = point.applied_to(order)
        return self._iteration(share, point, self._epochs.begin(iteration, point, order.world))

    def _iteration(self, share: ReaderShare, point: ResumePoint | None, epoch: int) -> Iteration[Any]:
        order, skip = self._order(share=share), 0
        if point is not None:
            order, skip = point.applied_to(order)
        order = replace(order, epoch=epoch)
        worker = worker_share()
        if worker is None or worker.index == 0:
            workers = 0 if worker is None else worker.count
            elsewhere = share.divided_elsewhere
            self._shared.begin(LastIteration(epoch, order.start, skip, workers, divided_elsewhere=elsewhere))
        listing = self._listing
        rows = listing.rows
        self._position = ReaderPosition(order, skip, rows, point)
        reading = self._reading.begin()
        stream: ObjectStream | NoObjects
        if (point is not None and point.finished) or not share.division.reads:
            # Nothing is left for this reader, so no request is sent, not even for the listing.
            stream = NoObjects()
        else:
            with reading.trace():
                stream = listing.stream(order.formula(skip), arrival=self._options.order == "arrival")
        policy = self._options.policy
        reading.waited = lambda: stream.waited
        return Iteration(
            Outcomes(stream, self._transform, keep=policy.has("substitute"), clock=reading.clock),
            policy,
            self._counts,
            self._position,
            self._options.batch_size or NEIGHBOURS,
            lambda position: next(listing.stream_at([order.formula().entry(position, rows.count)])),
            listing.warn_if_empty,
            partial(self._confirmed, share, point, epoch),
            reading=reading,
        )

    def __repr__(self) -> str:
        """Return place, number and size of the objects if they are known, options and next epoch; no secret."""
        return self._description().text(type(self).__name__)

    def _repr_html_(self) -> str:
        return self._description().table(type(self).__name__)

    def _description(self) -> Description:
        return Description(self._listing, self._transform, self._options, self._shared.epoch)

    def _check_dispatched(self, division: Division) -> None:
        size = division.batch_size
        if size is None:
            return
        cuts = f"{division.ranks} joins batches of {size} samples from several workers and cuts them for the ranks"
        if self._options.batch_size not in {None, size}:
            raise OssConfigError(
                f"{cuts}, and it loses samples if a batch is short: give the dataset batch_size={size}, not "
                f"{self._options.batch_size}, or let the loader have one worker"
            )
        if self._options.policy.has("skip"):
            raise OssConfigError(
                f'{cuts}, and it loses samples if a batch is short, as on_error="skip" makes it: give '
                'on_error="substitute", or let the loader have one worker'
            )

    def _confirmed(self, share: ReaderShare, point: ResumePoint | None, epoch: int) -> Iteration[Any] | None:
        """Return the iteration of another share if a program began to divide before the first object was taken."""
        now = self._ranks.confirmed(share)
        self._check_dispatched(now.division)
        return None if now is share else self._iteration(now, point, epoch)

    def _order(self, epoch: int | None = None, start: int = 0, share: ReaderShare | None = None) -> ReaderOrder:
        options = self._options
        rank, worker, division, _ = share or self._ranks.reader()
        return ReaderOrder(
            epoch=self._shared.epoch if epoch is None else epoch,
            seed=options.seed,
            shuffle=options.order_shuffle,
            start=start,
            batch_size=options.batch_size or division.batch_size or self._source.batch_size,
            even=options.even,
            rank=rank.index,
            world=rank.count,
            worker=worker.index,
            workers=worker.count,
            chunks=options.shuffle_chunks,
        )

    def _counted_iteration(self, samples_consumed: int) -> LastIteration:
        """Return the iteration whose samples the program counts."""
        last = self._shared.last_iteration
        if samples_consumed:
            if last is None:
                raise OssConfigError("samples_consumed must be 0 before the first iteration")
            return last
        if last is None or self._shared.epoch_is_set:
            return LastIteration(self._shared.epoch, 0, 0, 0)
        if last.start or last.skip:
            raise OssConfigError(
                "without any sample this may be the iteration that resumes from the loaded state, or the one after it: "
                "keep the loaded state until a sample is consumed, or call set_epoch to begin another epoch"
            )
        # It began, and the program took nothing from it.
        return LastIteration(last.epoch, 0, 0, 0)

    def _need_listed_order(self) -> None:
        if self._options.order == "arrival":
            raise OssConfigError('order="arrival" does not support saving the position: give order="listed"')

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy whose iterations count as those of this dataset."""
        return deep_copy(self, memo)

    def __getstate__(self) -> dict[str, Any]:
        """Return the parts; each of them decides what of it is pickled."""
        return {**self.__dict__, "_position": None}
