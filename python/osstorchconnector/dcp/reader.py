"""Loading: the ``storage_reader`` of ``torch.distributed.checkpoint.load``."""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.futures import Future

from osstorchconnector._second_names import second_names
from osstorchconnector._torch.distributed import StorageInfo
from osstorchconnector.connection.client import OssClient, get_bounded
from osstorchconnector.connection.spans import operation
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.dcp.delivery import Delivery
from osstorchconnector.dcp.fetch import Fetcher, Files
from osstorchconnector.dcp.file_system import OssFileSystem
from osstorchconnector.dcp.integrity import LARGEST_DESCRIPTION, Sidecar
from osstorchconnector.dcp.metadata import metadata_name, read_metadata, save_id_of
from osstorchconnector.dcp.paths import join
from osstorchconnector.dcp.plan_check import check_plan
from osstorchconnector.dcp.portable import portable_errors
from osstorchconnector.dcp.sharing import Exchange, RankInfo, check_group, check_one_save, share, this_machine
from osstorchconnector.dcp.stored import StoredItem
from osstorchconnector.dcp.world import world_size
from osstorchconnector.exceptions import OssConfigError, OssIntegrityError, OssNotFoundError

# Twice the bytes of the ranges in flight, so that ranges being delivered do not delay others.
_BUDGET: Final = 256 << 20
# At 35 ms to the first byte, 16 ranges of 8 MiB make 3.8 GB/s, the rate of one I/O thread.
_CONCURRENCY: Final = 16
# Measured with benchmarks/range_gaps.py, which loads every second tensor at 20 ms to the first byte: reading gaps of
# 128 KiB takes half as long as skipping them. With gaps of 512 KiB, the machine's other work decides which is faster.
_GAP: Final = 256 << 10

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadReport:
    """What a load read on this rank.

    Attributes:
        needed_bytes: Bytes of the values that were asked for.
        read_bytes: Bytes of the ranges that were fetched.
        ranges: Number of these ranges.
        files: Number of files that were read.
        seconds: Duration of the load.
    """

    needed_bytes: int
    read_bytes: int
    ranges: int
    files: int
    seconds: float

    @property
    def amplification(self) -> float:
        """Bytes fetched for each byte asked for."""
        return self.read_bytes / self.needed_bytes if self.needed_bytes else 1.0


@guards_methods
class OssStorageReader(FileSystemReader):
    """Reads a checkpoint below an ``oss://`` URI: one of :class:`OssStorageWriter`, or one that torch's writer made.

    A rank fetches the ranges that it needs concurrently and in any order; ranges close to each other are one request.
    Bytes of a tensor that is contiguous in main memory are received there without a copy. If :class:`OssStorageWriter`
    wrote the checkpoint, all bytes are checked by CRC-64, also if only a part is loaded.

    Attributes:
        report: What the last load read; None before the first.
    """

    @second_names(file_system="fs")
    def __init__(
        self,
        fs: OssFileSystem,
        path: str,
        *,
        budget: int = _BUDGET,
        concurrency: int = _CONCURRENCY,
        gap: int = _GAP,
        share_replicated: bool = False,
        process_group: dist.ProcessGroup | None = None,
        _extension_registry: Any = None,  # noqa: ANN401 - torch's, experimental
    ) -> None:
        """Describe the loads; the network is not used.

        Args:
            fs: The file system that holds the checkpoint.
            path: The checkpoint's URI, like ``oss://bucket/checkpoints/1``.
            budget: Upper limit of the bytes of buffers in flight. Bytes received directly in a tensor do not count.
            concurrency: Upper limit of the ranges in flight.
            gap: If at most this many bytes lie between two items, one request fetches both.
            share_replicated: If several ranks of a machine need the same item, one of them reads it and sends it to the
                others. All ranks must give the same value.
            process_group: The group given to ``load``; ``share_replicated`` sends through it. It needs a backend for
                the CPU, such as gloo. Default: the default group.
            _extension_registry: torch's registry of extensions that restore the bytes of items.

        Raises:
            OssConfigError: An argument is wrong.
        """
        uri = fs.init_path(path)
        super().__init__(uri, _extension_registry)
        if budget < 1 or concurrency < 1 or gap < 0:
            raise OssConfigError(
                f"budget={budget}, concurrency={concurrency} or gap={gap} is out of range: budget and concurrency must "
                "be at least 1, gap at least 0"
            )
        self.fs = fs  # type: ignore[assignment]  # torch's classes declare their own
        self._file_system = fs
        self.path = uri
        self.report: ReadReport | None = None
        self._budget = budget
        self._concurrency = concurrency
        self._gap = gap
        self._shares = share_replicated
        self._group = process_group
        self._together = True
        self._metadata: Metadata | None = None
        self._failure: Exception | None = None
        self._sidecar: Sidecar | None = None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ANN401, ARG002 - torch's
        """Read the checkpoint's metadata.

        Raises:
            OssNotFoundError: There is no metadata: no checkpoint, or one whose save did not finish.
            OssIntegrityError: The object holds something else.
        """
        rank = kwargs.get("rank")
        first, self._failure = self._failure, None
        if rank is None or first is None or isinstance(first, OssNotFoundError):
            try:
                return self._read_metadata(rank)
            except Exception as error:
                if rank is None or first is None:
                    self._failure = error
                    raise
        # torch asks for the rank's own metadata after the first exception. It would replace a second one by an
        # AssertionError, so the first one is raised when torch uses the metadata.
        self._failure = first
        return Metadata({})

    def _read_metadata(self, rank: int | None) -> Metadata:
        with portable_errors():
            try:
                metadata = read_metadata(self._client, join(self._uri, metadata_name(rank)))
            except OssNotFoundError as error:
                of_rank = "" if rank is None else f" of rank {rank}"
                raise OssNotFoundError(
                    f"there is no checkpoint{of_rank} at {self._uri}: {metadata_name(rank)}, which a save writes last, "
                    f"is missing; `osst checkpoint ls {self._uri}` lists the checkpoints there",
                    code=error.code,
                    status=error.status,
                    request_id=error.request_id,
                    bucket=error.bucket,
                    key=error.key,
                ) from error
        if getattr(metadata, "storage_meta", None) is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id  # type: ignore[union-attr]
        return metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002, FBT001 - torch's
        """Take the metadata, and read the checksums that belong to it.

        Raises:
            OssIntegrityError: The checksums are missing or damaged.
            OssConfigError: Each rank saved by itself, and the number of ranks is different now.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        with portable_errors():
            if metadata.storage_data is None:
                raise OssIntegrityError(f"the metadata of {self._uri} does not say where its items are")
            self.storage_data = metadata.storage_data
            self._metadata = metadata
            # torch passes `use_collectives` only because this method has a parameter named `kwargs`.
            self._together = bool(kwargs.get("use_collectives", True))
            self._sidecar = self._read_sidecar(metadata)
            saved_by = None if self._sidecar is None else self._sidecar.ranks
            if saved_by not in {None, loading := world_size(self._group)}:
                raise OssConfigError(
                    f"the checkpoint at {self._uri} was saved by {saved_by} ranks, each by itself "
                    f"(use_collectives=False): load it with {saved_by} ranks, not with {loading}"
                )

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Add to the plan which save this rank reads, and its machine if ranks share items.

        Raises:
            OssConfigError: The process group cannot send main memory.
        """
        if not self._together:
            # Each rank reads a save of its own.
            return plan
        machine = None
        if self._shares and world_size(self._group) > 1:
            check_group(self._group, "share_replicated")
            machine = this_machine()
        meta = None if self._metadata is None else self._metadata.storage_meta
        return dataclasses.replace(plan, storage_data=RankInfo(getattr(meta, "save_id", None), machine))

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Check that all ranks read the same save, and decide which rank reads each item that ranks of a machine share.

        Raises:
            OssIntegrityError: Ranks read different saves.
        """
        check_one_save(plans, self._uri)
        return share(plans, self.storage_data)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fetch the items of a plan and deliver them to the planner.

        Raises:
            OssNotFoundError: A file is missing.
            OssIntegrityError: A file is truncated, or does not hold the bytes that were saved.
            OssConfigError: Each rank saved by itself, and this rank needs more than its own shards.
        """
        started = time.monotonic()
        with operation("dcp.read", self._uri), portable_errors():
            if self._metadata is not None:
                check_plan(plan, planner, self._metadata, self._uri)
            items = self._stored_items(plan)
            files = Files(self._client, self._uri, {} if self._sidecar is None else self._sidecar.files)
            delivery = Delivery(planner, self.transforms)
            fetcher = Fetcher(files, self._concurrency, self._budget, delivery.run_limit, self._gap)
            needed = sum(item.needed() for item in items)
            if isinstance(plan.storage_data, list) and plan.storage_data:
                by_key = {(item.file, item.offset, item.name): item for item in items}
                shared = {item.key for item in plan.storage_data}
                Exchange(self._group, fetcher, self._budget, delivery.deliver).run(plan.storage_data, by_key)
                items = [item for key, item in by_key.items() if key not in shared]
            fetcher.run(delivery.ranges(items))
        self.report = ReadReport(needed, fetcher.bytes_read, fetcher.runs, len(files), time.monotonic() - started)
        _logger.info("%s: %s, amplification %.3f", self._uri, self.report, self.report.amplification)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return whether this can be the URI of a checkpoint."""
        return OssFileSystem.validate_checkpoint_id(checkpoint_id)

    @property
    def _client(self) -> OssClient:
        return self._file_system.client

    @property
    def _uri(self) -> str:
        # torch sets `path` to the `checkpoint_id` that is given to save or load.
        return str(self.path)

    def _read_sidecar(self, metadata: Metadata) -> Sidecar | None:
        save_id = save_id_of(metadata)
        if save_id is None:
            return None
        uri = join(self._uri, Sidecar.name(save_id))
        try:
            sidecar = Sidecar.from_bytes(get_bounded(self._client, uri, LARGEST_DESCRIPTION), uri)
        except OssNotFoundError as error:
            raise OssIntegrityError(
                f"the checksums of {self._uri} are missing at {uri}: they were deleted, or another save replaced the "
                "checkpoint after its metadata was read; if so, load it again"
            ) from error
        if sidecar.save_id != save_id:
            raise OssIntegrityError(f"{uri} holds the checksums of another save, {sidecar.save_id}")
        return sidecar

    def _stored_items(self, plan: LoadPlan) -> list[StoredItem]:
        """Return the items of a plan, each once, sorted by file and offset."""
        found: dict[tuple[str, int, int, str], StoredItem] = {}
        for request in plan.items:
            index = request.storage_index
            info = self.storage_data.get(index)
            if info is None:
                raise OssIntegrityError(f"the metadata of {self._uri} does not say where {index} is")
            if not hasattr(info, "length"):
                raise OssIntegrityError(
                    f"the metadata of {self._uri} does not say where {index.fqn!r} is in {info.relative_path}: load a "
                    "directory of Hugging Face with OssFileSystem.hugging_face_reader"
                )
            key = (info.relative_path, info.offset, info.length, index.fqn)
            if key not in found:
                found[key] = self._stored_item(index, info)
            found[key].requests.append(request)
        return [found[key] for key in sorted(found)]

    def _stored_item(self, index: MetadataIndex, info: StorageInfo) -> StoredItem:
        item = StoredItem(
            index.fqn, info.relative_path, info.offset, info.length, tuple(info.transform_descriptors or ())
        )
        entry = None if self._metadata is None else self._metadata.state_dict_metadata.get(index.fqn)
        if isinstance(entry, TensorStorageMetadata):
            item.dtype = entry.properties.dtype
            item.shape = next(chunk.sizes for chunk in _likely_first(entry, index) if chunk.offsets == index.offset)
        record = None if self._sidecar is None else self._sidecar.record(info)
        if self._sidecar is not None and record is None:
            raise OssIntegrityError(f"the checksums of {self._uri} lack {index.fqn!r} in {info.relative_path}")
        if record is not None:
            item.crc = record.crc
            if record.data_start is not None and record.data_length == item.data_length:
                item.data_start = record.data_start
                item.block_crcs = record.block_crcs
        return item


def _likely_first(entry: TensorStorageMetadata, index: MetadataIndex) -> Iterator[Any]:
    """Yield a tensor's chunks; the one that the index hints at comes first, and again later."""
    if index.index is not None and index.index < len(entry.chunks):
        yield entry.chunks[index.index]
    yield from entry.chunks
