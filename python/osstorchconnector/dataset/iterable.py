"""The iterable dataset: objects stream past in order."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, Self, Unpack

from torch.utils.data import IterableDataset

from osstorchconnector._native import DataObject
from osstorchconnector.connection.client import OssClient, connect
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.dataset.failure_counts import FailureCounts
from osstorchconnector.dataset.iteration import BLOCK, Iteration, Progress
from osstorchconnector.dataset.listing import SharedListing
from osstorchconnector.dataset.manifest import ManifestParser
from osstorchconnector.dataset.options import DatasetOptions, Failure, Options, StreamOptions
from osstorchconnector.dataset.outcome import NoObjects, Outcomes, Stream, identity
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.resume import Pending
from osstorchconnector.dataset.sharding import RankShard
from osstorchconnector.dataset.shared_epoch import Begun, SharedState
from osstorchconnector.dataset.sources import ManifestSource, ObjectsSource, PrefixSource, Source, TarSource
from osstorchconnector.dataset.state import (
    Plan,
    Resume,
    State,
    consumed_by_workers,
    cursor_after,
    reader_state,
    worker_states,
)
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.worker import WHOLE, worker_shard

__all__ = ["OssIterableDataset"]

# What a word of shared memory holds.
_EPOCHS: Final = 1 << 63


class OssIterableDataset(IterableDataset[Any]):
    """Objects in OSS as an iterable-style dataset: build one with a method ``from_...``.

    Objects are fetched ahead, many at a time, and delivered in an order that options, epoch, rank and worker decide by
    a documented formula (docs/concepts/order.md). The ranks of a process group and the workers of a ``DataLoader``
    share the objects between them. Where an object cannot be delivered, its error is raised in its place, or what
    ``on_error`` says happens, and the iteration can go on with the next.
    """

    def __init__(
        self,
        client: OssClient,
        source: Source,
        transform: Callable[[DataObject], Any] = identity,
        options: Options = Options(),  # noqa: B008 - it is frozen
    ) -> None:
        """Hold the parts; the class methods build them from what users have."""
        super().__init__()
        self._source = source
        self._transform = transform
        self._ranks = RankShard(options.shard, options.process_group)
        # A process group does not pickle; who is started is told the share.
        self._options = replace(options, process_group=None)
        self._directory = PrivateDirectory()
        self._shared = SharedState()
        self._pending = Pending(self._directory)
        self._counts = FailureCounts(self._directory)
        self._listing = SharedListing(source, client, self._directory, directory_markers=options.directory_markers)
        self._progress: Progress | None = None

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
                :class:`OssClient`. If the endpoint is empty, objects are files of this machine, and URIs their absolute
                paths.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                iterates.
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
                :class:`OssClient`. If the endpoint is empty, objects are files of this machine, and URIs their absolute
                paths.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                iterates.
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
            manifest_parser: Called with the manifest as a binary stream, yields the key and the label of each object,
                or key, label, size and ETag: :func:`line_manifest_parser`, :func:`imagenet_manifest_parser` or one of
                your own. None: lines, or what ``osst manifest`` wrote. It is called once, in the process that needs its
                objects first.
            oss_base_uri: What stands before each key, like ``oss://bucket/prefix/``. A key that begins with
                ``oss://`` is taken as it is.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`. If the endpoint is empty, objects are files of this machine, and URIs their absolute
                paths.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                iterates.
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
            tar_uri: The archive, like ``oss://bucket/train.tar``: a plain tar file, not a compressed one.
            tar_index_uri: The URI or the local path of its index, which :func:`generate_tar_archive` makes. Empty or
                None: the archive's headers are read instead, one after the other.
            endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
                :class:`OssClient`. If the endpoint is empty, objects are files of this machine, and URIs their absolute
                paths.
            transform: What to make of each object. Default: the object itself. It is called in the process that
                iterates.
            shuffle: Deliver the members in an order that seed and epoch decide: chunks change places, and members are
                mixed inside each.
            shuffle_chunk_size: Members of a chunk.
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
        """Set the epoch of the iterations that follow, here and in workers that persist. It decides the shuffle.

        The epoch does not advance by itself. A state of another epoch that was loaded and not used yet is dropped.

        Args:
            epoch: At least 0.

        Raises:
            OssConfigError: It is no such number.
        """
        if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 <= epoch < _EPOCHS:
            raise OssConfigError(f"epoch must be an integer of at least 0, not {epoch!r}")
        pending = self._pending.peek()
        if pending is not None and pending.plan.epoch != epoch:
            self._pending.drop()
        self._shared.set_epoch(epoch, explicitly=True)

    def refresh(self) -> None:
        """List or parse anew at the next iteration; else all iterations of this dataset use one listing."""
        self._listing.refresh()

    @property
    def error_counts(self) -> dict[Failure, int]:
        """How many objects could not be delivered, by class of failure, in this process and in all workers so far."""
        return self._counts.read()

    def state_dict(self) -> State:
        """Return where the iteration in this process stands: a small dictionary for JSON.

        ``torchdata.stateful_dataloader.StatefulDataLoader`` calls it where the iteration is. It belongs to this rank
        and this worker; to go on with another number of either, see :meth:`cursor` and :meth:`cursor_from`.

        Raises:
            OssConfigError: The workers of a plain ``DataLoader`` iterate, so this process cannot know; or
                ``order="arrival"``.
        """
        self._need_listed_order()
        pending = self._pending.peek()
        if pending is not None:
            return pending.state()
        if self._progress is not None and self._progress.is_here():
            return self._progress.state().state()
        begun = self._shared.begun
        if begun is not None and begun.workers:
            raise OssConfigError(
                "the workers of a DataLoader iterate over this dataset, and how much of their work was consumed is "
                "known to the program only: use cursor(samples_consumed=...), or torchdata's StatefulDataLoader"
            )
        return reader_state(self._plan(), 0, self._listing.rows).state()

    def load_state_dict(
        self, state: Mapping[str, Any], on_listing_change: Literal["raise", "continue"] = "raise"
    ) -> None:
        """Let the next iteration go on from a state or a cursor; the one after that begins at the start again.

        No object that was consumed is fetched again. The next iteration has the state's epoch; those after it too,
        unless :meth:`set_epoch` says otherwise.

        Args:
            state: What :meth:`state_dict`, :meth:`cursor` or :meth:`cursor_from` returned.
            on_listing_change: What to do where the part of the listing that decided what was consumed is another one
                now: ``"raise"`` :class:`OssListingChangedError`, or ``"continue"`` at the same position.

        Raises:
            OssConfigError: This is no state, or one of a dataset with other options.
        """
        self._need_listed_order()
        resume = Resume.from_state(state, on_listing_change)
        resume.check_order(self._plan())
        self._pending.load(resume)
        if not self._shared.epoch_was_set:
            self._shared.set_epoch(resume.plan.epoch, explicitly=False)

    def cursor(self, *, samples_consumed: int) -> State:
        """Return where the epoch stands, from the program's own count, for any number of ranks and workers.

        All ranks must be at the same step. With more than one worker ``batch_size`` must be told to the dataset.

        Args:
            samples_consumed: Samples that the program took on this rank from the current iteration, which began at the
                epoch's start or where a loaded state stood.

        Raises:
            OssConfigError: The count is not behind a batch, larger than what there is, or cannot tell the position.
        """
        self._need_listed_order()
        if not isinstance(samples_consumed, int) or isinstance(samples_consumed, bool) or samples_consumed < 0:
            raise OssConfigError(f"samples_consumed must be an integer of at least 0, not {samples_consumed!r}")
        if self._options.policy.has("skip"):
            raise OssConfigError(
                'with on_error="skip" samples do not tell positions: use cursor_from(loader.state_dict()) with '
                "torchdata's StatefulDataLoader"
            )
        pending = self._pending.peek()
        if pending is not None and samples_consumed == 0:
            return pending.as_cursor().state()
        begun = self._begun(samples_consumed)
        if begun.workers > 1 and self._options.batch_size is None:
            raise OssConfigError(
                "with several workers a count of samples tells the position only where the dataset knows the loader's "
                "batch size: build it with batch_size=..."
            )
        if begun.workers > 1 and begun.skip:
            raise OssConfigError(
                "this iteration goes on from the states of several workers, whose samples the count does not have: use "
                "cursor_from(loader.state_dict())"
            )
        plan = self._plan(epoch=begun.epoch, start=begun.start)
        return cursor_after(plan, begun.skip + samples_consumed, self._listing.rows).state()

    def cursor_from(self, loader_state: Mapping[str, Any]) -> State:
        """Return where the epoch stands, from a ``StatefulDataLoader``, for any number of ranks and workers.

        All ranks must be at the same step. With more than one worker ``batch_size`` must be told to the dataset.

        Args:
            loader_state: What the loader's ``state_dict()`` returned, on any rank.

        Raises:
            OssConfigError: It is no such state, or what the workers have consumed is not all before one position.
        """
        self._need_listed_order()
        rows = self._listing.rows
        states, steps = worker_states(loader_state)
        return cursor_after(*consumed_by_workers(states, steps, rows), rows).state()

    def __iter__(self) -> Iteration[Any]:
        """Start to fetch this process's objects: those of its rank, and of its worker in a ``DataLoader``.

        Raises:
            OssConfigError: A state was loaded that is for other readers.
            OssError: While iterating, in the place of an object that cannot be fetched.
        """
        resume = self._pending.take()
        plan, skip = self._plan(), 0
        if resume is not None:
            plan, skip = resume.applied_to(plan)
        if plan.worker == 0:
            workers = 0 if worker_shard() is None else plan.workers
            self._shared.begin(Begun(plan.epoch, plan.start, skip, workers))
        listing = self._listing
        rows = listing.rows
        self._progress = Progress(plan, skip, rows, resume)
        stream: Stream
        if resume is not None and resume.finished:
            # Nothing is left, so nothing is asked for, not even the listing.
            stream = NoObjects()
        else:
            stream = listing.stream(plan.order(skip), arrival=self._options.order == "arrival")
        policy = self._options.policy
        return Iteration(
            Outcomes(stream, self._transform, keep=policy.has("substitute")),
            policy,
            self._counts,
            self._progress,
            self._options.batch_size or BLOCK,
            lambda position: next(listing.stream_at([plan.order().entry(position, rows.count)])),
        )

    def _plan(self, epoch: int | None = None, start: int = 0) -> Plan:
        options = self._options
        rank = self._ranks.resolve()
        worker = worker_shard() or WHOLE
        return Plan(
            epoch=self._shared.epoch if epoch is None else epoch,
            seed=options.seed,
            shuffle=options.order_shuffle,
            start=start,
            batch_size=options.batch_size or self._source.batch_size,
            even=options.even,
            rank=rank.index,
            world=rank.count,
            worker=worker.index,
            workers=worker.count,
            chunks=options.shuffle_chunks,
        )

    def _begun(self, samples_consumed: int) -> Begun:
        """Return the iteration that the program counts the samples of."""
        begun = self._shared.begun
        if samples_consumed:
            if begun is None:
                raise OssConfigError("samples_consumed must be 0 before the first iteration")
            return begun
        if begun is not None and (begun.start or begun.skip) and begun.epoch == self._shared.epoch:
            raise OssConfigError(
                "without any sample this may be the iteration that goes on from the loaded state, or the one after it: "
                "keep the loaded state until a sample is consumed, or call set_epoch to begin another epoch"
            )
        return Begun(self._shared.epoch, 0, 0, 0)

    def _need_listed_order(self) -> None:
        if self._options.order == "arrival":
            raise OssConfigError('with order="arrival" no state can tell what was consumed: give order="listed"')

    def __getstate__(self) -> dict[str, Any]:
        """Return the parts; each of them knows what of it travels."""
        return {**self.__dict__, "_progress": None}
