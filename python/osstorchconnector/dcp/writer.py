"""Saving: what ``torch.distributed.checkpoint.save`` and ``async_save`` write through."""

import dataclasses
import logging
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from osstorchconnector._torch.distributed import SerializationFormat, StoragePrefix, set_version, split_by_size_and_type
from osstorchconnector.connection.client import OssClient
from osstorchconnector.dcp.file_system import OssFileSystem
from osstorchconnector.dcp.integrity import Sidecar, describe
from osstorchconnector.dcp.item_files import ItemFile, ItemFileWriter
from osstorchconnector.dcp.metadata import files_of, metadata_name, new_save_id, read_metadata
from osstorchconnector.dcp.paths import join
from osstorchconnector.dcp.portable import portable_errors
from osstorchconnector.dcp.prefix import PrefixStrategy, directory_of
from osstorchconnector.dcp.shard_header import SUFFIX as SAFETENSORS_SUFFIX
from osstorchconnector.dcp.world import world_size
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError, OssNotFoundError

_SUFFIX: Final = ".distcp"

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Nonce:
    """What a rank sends along with its local plan, to know the answer by."""

    nonce: str


@dataclasses.dataclass
class _RankPrefix(StoragePrefix):
    """What the names of a rank's files begin with, from the coordinator."""

    save_id: str = ""
    nonce: str | None = None


class OssStorageWriter(FileSystemWriter):
    """Writes a checkpoint below an ``oss://`` URI, all or nothing.

    ``.metadata`` is written last, and a save never writes to a name that another save has used. Until ``.metadata`` is
    there, the checkpoint that was at the same place before loads bit for bit; then its files are deleted.

    One instance may be used for many saves. It pickles with its file system.
    """

    def __init__(
        self,
        file_system: OssFileSystem,
        path: str,
        *,
        single_file_per_rank: bool = True,
        thread_count: int = 1,
        per_thread_copy_ahead: int = 10_000_000,
        cache_staged_state_dict: bool = False,
        overwrite: bool = True,
        prefix_strategy: PrefixStrategy | None = None,
        serialization_format: Any = None,  # noqa: ANN401 - torch's enumeration, absent before torch 2.8
        sync_files: bool = True,
        _extensions: Sequence[Any] | None = None,
    ) -> None:
        """Describe the saves; the network is not used.

        Args:
            file_system: Where.
            path: The checkpoint's place, like ``oss://bucket/checkpoints/1``.
            single_file_per_rank: Write one file per rank and thread, not one for each item.
            thread_count: How many files each rank writes at a time. Each of them is uploaded in concurrent parts.
            per_thread_copy_ahead: Bytes to copy from an accelerator ahead of uploading them.
            cache_staged_state_dict: Keep the copy that ``async_save`` makes, to be used again by the next one.
            overwrite: Replace a checkpoint that is there. False: raise.
            prefix_strategy: Gives each rank a directory below the checkpoint: :class:`HexadecimalPrefix`,
                :class:`RoundRobinPrefix`, or any function of the rank. Default: none.
            serialization_format: ``torch.distributed.checkpoint.filesystem.SerializationFormat``, or its value
                ``"torch_save"`` or ``"safetensors"``. Default: ``"torch_save"``.
            sync_files: Accepted as torch's writer has it: what is uploaded is durable.
            _extensions: Extensions that transform the bytes of each item, such as torch's ``ZStandard``.

        Raises:
            OssConfigError: An argument is wrong.
        """
        uri = file_system.init_path(path)
        super().__init__(
            path=uri,
            single_file_per_rank=single_file_per_rank,
            sync_files=sync_files,
            thread_count=thread_count,
            per_thread_copy_ahead=per_thread_copy_ahead,
            cache_staged_state_dict=cache_staged_state_dict,
            overwrite=overwrite,
            _extensions=_extensions,
        )
        if thread_count < 1:
            raise OssConfigError(f"thread_count must be at least 1, not {thread_count}")
        self.fs = file_system  # type: ignore[assignment]  # torch's classes declare their own
        self._file_system = file_system
        self.path = uri
        self.serialization_format, self._format = _format_of(serialization_format)
        if self._format == "safetensors" and self.transforms.extensions:
            raise OssConfigError("a safetensors file cannot be transformed by extensions: leave one of them out")
        self.rank: int | None = None
        self.use_collectives = True
        self._is_coordinator = True
        self._prefix_strategy = prefix_strategy
        self._nonce = ""
        self._planned: list[set[MetadataIndex]] = []

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002, FBT001 - torch's
        """Take the role of this rank."""
        self._is_coordinator = is_coordinator
        self.rank = kwargs.get("rank")
        self.use_collectives = kwargs.get("use_collectives", True)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Look whether there is a checkpoint that must not, or cannot, be replaced.

        Raises:
            OssConfigError: There is, and ``overwrite`` is False; or all ranks together have saved it, and now each
                saves by itself.
        """
        with portable_errors():
            looks = self._is_coordinator or not self.use_collectives
            if not self.overwrite and looks and self._file_system.exists(self._metadata_uri):
                raise OssConfigError(
                    f"there is a checkpoint at {self._uri}; overwrite=True replaces it once the new one is whole"
                )
            # A load looks for the one of all ranks first, and no rank knows when the others are done and it may go.
            if not self.use_collectives and self._file_system.exists(join(self._uri, metadata_name(None))):
                raise OssConfigError(
                    f"there is a checkpoint of all ranks at {self._uri}, which would go on being loaded in place of "
                    "those that each rank saves by itself (use_collectives=False): save them somewhere else, or "
                    f"delete it with `osst checkpoint rm {self._uri}`"
                )
        self._nonce = new_save_id()
        return dataclasses.replace(plan, storage_data=_Nonce(self._nonce))

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Draw the identifier of this save and give each rank the beginning of its files' names."""
        with portable_errors():
            self.save_id = new_save_id()
            self._planned = [{item.index for item in plan.items} for plan in plans]
            return [
                dataclasses.replace(plan, storage_data=self._rank_prefix(number, plan))
                for number, plan in enumerate(plans)
            ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's items.

        Raises:
            OssError: A file could not be uploaded. Those that were are deleted again.
        """
        with portable_errors():
            files = list(self._files(self._names(plan.storage_data), plan.items))
            results: list[WriteResult] = []
            if files:
                copy_ahead = self.per_thread_copy_ahead
                writer = ItemFileWriter(
                    self._client, self._uri, planner, self.transforms, self.thread_count, copy_ahead
                )
                results = writer.write(files)
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Publish the checkpoint, then delete the files of the one that was there before.

        Raises:
            OssIntegrityError: An item that was planned was not written. Nothing is published.
            OssError: The metadata could not be uploaded.
        """
        with portable_errors():
            written = {result.index: result.storage_data for ranks in results for result in ranks}
            sidecar = Sidecar.of_results(self.save_id, self._format, written.values())
            sidecar.ranks = None if self.use_collectives else world_size()
            try:
                self._check_complete(metadata, written)
                old_files = self._old_files()
                self._client.put(join(self._uri, Sidecar.name(self.save_id)), sidecar.to_bytes())
            except Exception as error:
                self._take_back(sidecar.files, error)
                raise
            # From here on nothing is taken back: of a request without an answer it is not known whether it was done.
            metadata.storage_data = {index: info.plain() for index, info in written.items()}
            metadata.storage_meta = self.storage_meta()
            set_version(metadata)
            self._client.put(self._metadata_uri, pickle.dumps(metadata))
            self._delete(old_files - {*sidecar.files, Sidecar.name(self.save_id)})

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return whether a checkpoint can be there."""
        return OssFileSystem.validate_checkpoint_id(checkpoint_id)

    @property
    def _client(self) -> OssClient:
        return self._file_system.client

    @property
    def _uri(self) -> str:
        # What torch sets as `path`, also when a `checkpoint_id` is given to save or load.
        return str(self.path)

    @property
    def _metadata_uri(self) -> str:
        return join(self._uri, metadata_name(None if self.use_collectives else self.rank))

    def _rank_prefix(self, number: int, plan: SavePlan) -> _RankPrefix:
        rank = number if self.use_collectives or self.rank is None else self.rank
        nonce = plan.storage_data.nonce if isinstance(plan.storage_data, _Nonce) else None
        return _RankPrefix(f"{directory_of(self._prefix_strategy, rank)}__{rank}_", self.save_id, nonce)

    def _names(self, prefix: _RankPrefix) -> Iterator[str]:
        # A planner that caches plans hands out one from an earlier save, with names that save has used.
        save_id = prefix.save_id if prefix.nonce == self._nonce else self._nonce
        number = 0
        while True:
            yield f"{prefix.prefix}{save_id}_{number}"
            number += 1

    def _files(self, names: Iterator[str], items: Sequence[WriteItem]) -> Iterator[ItemFile]:
        if self._format == "safetensors":
            others = [item for item in items if item.type == WriteItemType.BYTE_IO]
            for bucket in self._buckets(others):
                yield ItemFile(f"{next(names)}{_SUFFIX}", bucket)
            tensors = [item for item in items if item.type != WriteItemType.BYTE_IO]
            for bucket in self._buckets(tensors):
                for unique in _with_distinct_names(bucket):
                    yield ItemFile(f"{next(names)}{SAFETENSORS_SUFFIX}", unique, safetensors=True)
            return
        for bucket in self._buckets(items):
            yield ItemFile(f"{next(names)}{_SUFFIX}", bucket)

    def _buckets(self, items: Sequence[WriteItem]) -> Iterable[list[WriteItem]]:
        if not self.single_file_per_rank:
            return [[item] for item in items]
        return [bucket for bucket in split_by_size_and_type(self.thread_count, list(items)) if bucket]

    def _check_complete(self, metadata: Metadata, written: dict[MetadataIndex, Any]) -> None:
        planned = set[MetadataIndex]().union(*self._planned)
        # A planner that caches plans sends empty ones, and the metadata all the same.
        for name, entry in metadata.state_dict_metadata.items():
            if isinstance(entry, TensorStorageMetadata):
                planned |= {MetadataIndex(name, chunk.offsets) for chunk in entry.chunks}
            else:
                planned.add(MetadataIndex(name))
        missing = sorted(index.fqn for index in planned - written.keys())
        if missing:
            raise OssIntegrityError(
                f"{len(missing)} of {len(planned)} items of the checkpoint {self._uri} were not written: "
                f"{describe(missing)}. It is not published; what was there before still loads"
            )

    def _old_files(self) -> set[str]:
        """Return the names of the files that the checkpoint which is there consists of."""
        if not self.overwrite:
            return set()
        try:
            return files_of(read_metadata(self._client, self._metadata_uri))
        except OssNotFoundError:
            return set()
        except OssIntegrityError as error:
            _log.warning("the checkpoint that is replaced cannot be read, so its files stay: %s", error)
            return set()

    def _take_back(self, names: Iterable[str], cause: Exception) -> None:
        uris = [join(self._uri, name) for name in names]
        try:
            self._client.delete_many(uris)
        except OssError as error:
            cause.add_note(f"files of this failed save are left at {describe(uris)}: {error}")

    def _delete(self, names: Iterable[str]) -> None:
        uris = sorted(join(self._uri, name) for name in names)
        try:
            self._client.delete_many(uris)
        except OssError as error:
            # The new checkpoint is whole: what failed is cleaning up.
            _log.warning(
                "%s is saved, but %d files of the checkpoint before it could not be deleted; "
                "`osst checkpoint rm --leftovers %s` deletes them: %s",
                self._uri,
                len(uris),
                self._uri,
                error,
            )


def _format_of(given: Any) -> tuple[Any, str]:  # noqa: ANN401 - torch's enumeration
    """Return torch's member, where torch has the enumeration, and its value."""
    name = "torch_save" if given is None else getattr(given, "value", given)
    if name not in {"torch_save", "safetensors"}:
        raise OssConfigError(f"serialization_format must be 'torch_save' or 'safetensors', not {given!r}")
    return (name if SerializationFormat is None else SerializationFormat(name)), name


def _with_distinct_names(items: Sequence[WriteItem]) -> list[list[WriteItem]]:
    """Split items so that no list has two shards of one tensor: a safetensors file has one entry for each name."""
    lists: list[list[WriteItem]] = []
    counts: dict[str, int] = {}
    for item in items:
        number = counts.get(item.index.fqn, 0)
        counts[item.index.fqn] = number + 1
        if number == len(lists):
            lists.append([])
        lists[number].append(item)
    return lists
