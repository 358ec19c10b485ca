"""Saving: the ``storage_writer`` of ``torch.distributed.checkpoint.save`` and ``async_save``."""

import dataclasses
import logging
import os
import pickle
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from osstorchconnector._second_names import second_names
from osstorchconnector._torch.distributed import SerializationFormat, StoragePrefix, set_version, split_by_size_and_type
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.spans import operation
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.dcp.file_system import OssFileSystem
from osstorchconnector.dcp.integrity import Sidecar, describe
from osstorchconnector.dcp.item_files import ItemFile, ItemFileWriter
from osstorchconnector.dcp.metadata import files_of, metadata_name, new_save_id, read_metadata
from osstorchconnector.dcp.one_save import OfSave, Saves
from osstorchconnector.dcp.paths import join
from osstorchconnector.dcp.portable import portable_errors
from osstorchconnector.dcp.prefix import PrefixStrategy, directory_of
from osstorchconnector.dcp.shard_header import SUFFIX as SAFETENSORS_SUFFIX
from osstorchconnector.dcp.world import world_size
from osstorchconnector.exceptions import (
    OssConfigError,
    OssError,
    OssIntegrityError,
    OssNotFoundError,
    OssPermissionError,
)

_SUFFIX: Final = ".distcp"

_logger: Final = logging.getLogger(__name__)


@dataclasses.dataclass
class _Nonce:
    """What a rank sends with its local plan, to recognise the answer to it."""

    nonce: str


@dataclasses.dataclass
class _RankPrefix(StoragePrefix):
    """The beginning of the names of a rank's files, which the coordinator sends."""

    save_id: str = ""
    nonce: str | None = None


class _Staged(dict[str, Any]):
    """A copy of a state dict in the memory that a writer keeps. A save holds it until its end."""


@guards_methods
class OssStorageWriter(FileSystemWriter):
    """Writes a checkpoint below an ``oss://`` URI, all or nothing.

    A save writes ``.metadata`` last, and never writes to a name that another save has used. Until the new ``.metadata``
    is written, the previous checkpoint at the same URI loads bit for bit. After that, its files are deleted.

    One instance may be used for many saves, also for several at the same time in threads of their own, which
    ``async_save`` starts: each has its own place, given as ``checkpoint_id``, and its own plan. It pickles with its
    file system.
    """

    save_id = OfSave()
    rank = OfSave()
    use_collectives = OfSave()

    @second_names(file_system="fs")
    def __init__(
        self,
        fs: OssFileSystem,
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
            fs: The file system to write to.
            path: The checkpoint's URI, like ``oss://bucket/checkpoints/1``.
            single_file_per_rank: Write one file per rank and thread. False: one file for each item.
            thread_count: How many files each rank writes at the same time. Each file is uploaded in concurrent parts.
            per_thread_copy_ahead: Bytes to copy from an accelerator before they are uploaded.
            cache_staged_state_dict: Keep the memory of the copy that ``async_save`` makes for the next save.
            overwrite: Replace an existing checkpoint. False: raise if there is one.
            prefix_strategy: Gives each rank a directory below the checkpoint: :class:`HexadecimalPrefix`,
                :class:`RoundRobinPrefix`, or any function of the rank. Default: no directories.
            serialization_format: ``torch.distributed.checkpoint.filesystem.SerializationFormat``, or its value
                ``"torch_save"`` or ``"safetensors"``. Default: ``"torch_save"``.
            sync_files: Accepted as torch's writer does, without effect: an uploaded object is always durable.
            _extensions: Extensions that transform the bytes of each item, such as torch's ``ZStandard``.

        Raises:
            OssConfigError: An argument is wrong.
        """
        uri = fs.init_path(path)
        self._saves = Saves(uri)
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
            raise OssConfigError(f"thread_count must be at least 1, got {thread_count}")
        self.fs = fs  # type: ignore[assignment]  # torch's classes declare their own
        self._file_system = fs
        self.path = uri
        self.serialization_format, self._format = _format_of(serialization_format)
        if self._format == "safetensors" and self.transforms.extensions:
            raise OssConfigError(
                "extensions cannot transform safetensors files: leave out the extensions or the format"
            )
        self._prefix_strategy = prefix_strategy
        self._staged: weakref.ref[_Staged] | None = None

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Name the place of the next save of this thread. A save without a name goes to the writer's own place."""
        self._saves.name(self._file_system.init_path(checkpoint_id) if checkpoint_id else self._saves.path)

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Copy a state dict to main memory for ``async_save``, into memory that no unfinished save reads."""
        if not self.cache_staged_state_dict:
            return super().stage(state_dict)
        if self._staged is not None and self._staged() is not None:
            _logger.info("%s: an earlier save still reads the memory that is kept, so new memory is used", self._uri)
            return BlockingAsyncStager(type_check=self.type_check).stage(state_dict)
        staged = _Staged(super().stage(state_dict))
        self._staged = weakref.ref(staged)
        return staged

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002, FBT001 - torch's
        """Begin a save, and remember the role of this rank."""
        save = self._saves.begin()
        save.is_coordinator = is_coordinator
        save.rank = kwargs.get("rank")
        save.use_collectives = kwargs.get("use_collectives", True)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Check that no existing checkpoint forbids this save.

        Raises:
            OssConfigError: There is a checkpoint, and ``overwrite`` is False; or the ranks saved it together, and now
                each rank saves by itself.
        """
        with portable_errors():
            looks = self._saves.current.is_coordinator or not self.use_collectives
            if not self.overwrite and looks and self._file_system.is_object(self._metadata_uri):
                raise OssConfigError(
                    f"the checkpoint {self._uri} already exists and overwrite=False: overwrite=True replaces it after "
                    "the new one is complete"
                )
            # A load prefers the checkpoint of all ranks, and no rank knows when the others are done and may delete it.
            if not self.use_collectives and self._file_system.is_object(join(self._uri, metadata_name(None))):
                raise OssConfigError(
                    f"there is a checkpoint of all ranks at {self._uri}, and a load would still choose it instead of "
                    "those that each rank saves by itself (use_collectives=False): save them to another URI, or delete "
                    f"the checkpoint with `osst checkpoint rm {self._uri}`"
                )
        nonce = self._saves.current.nonce = new_save_id()
        return dataclasses.replace(plan, storage_data=_Nonce(nonce))

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Make the identifier of this save, and give each rank the beginning of its files' names."""
        with portable_errors():
            self.save_id = new_save_id()
            self._saves.current.planned = [{item.index for item in plan.items} for plan in plans]
            return [
                dataclasses.replace(plan, storage_data=self._rank_prefix(number, plan))
                for number, plan in enumerate(plans)
            ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's items.

        Raises:
            OssError: A file could not be uploaded. The files that this rank uploaded are deleted.
        """
        with operation("dcp.write", self._uri), portable_errors():
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
        """Publish the checkpoint, then delete the files of the previous one.

        Raises:
            OssIntegrityError: A planned item was not written. Nothing is published.
            OssError: The metadata could not be uploaded.
        """
        with operation("dcp.finish", self._uri), portable_errors():
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
            # From here on no file is deleted after a failure: a request without an answer may have published them.
            metadata.storage_data = {index: info.plain() for index, info in written.items()}
            metadata.storage_meta = self.storage_meta()
            set_version(metadata)
            self._client.put(self._metadata_uri, pickle.dumps(metadata))
            self._delete(old_files - {*sidecar.files, Sidecar.name(self.save_id)})

    @property
    def path(self) -> str:
        """The place of this thread's save. Setting it sets the place of later saves too."""
        return self._saves.current.path

    @path.setter
    def path(self, value: str) -> None:
        self._saves.path = self._saves.current.path = value

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return whether this can be the URI of a checkpoint."""
        return OssFileSystem.validate_checkpoint_id(checkpoint_id)

    @property
    def _client(self) -> OssClient:
        return self._file_system.client

    @property
    def _uri(self) -> str:
        return self.path

    @property
    def _metadata_uri(self) -> str:
        return join(self._uri, metadata_name(None if self.use_collectives else self.rank))

    def __getstate__(self) -> dict[str, Any]:
        """Return the configuration: saves stay in their process."""
        return {**self.__dict__, "_staged": None}

    def _rank_prefix(self, number: int, plan: SavePlan) -> _RankPrefix:
        rank = number if self.use_collectives or self.rank is None else self.rank
        nonce = plan.storage_data.nonce if isinstance(plan.storage_data, _Nonce) else None
        return _RankPrefix(f"{directory_of(self._prefix_strategy, rank)}__{rank}_", self.save_id, nonce)

    def _names(self, prefix: _RankPrefix) -> Iterator[str]:
        # A planner that caches plans may return the plan of an earlier save, with names that are in use.
        nonce = self._saves.current.nonce
        save_id = prefix.save_id if prefix.nonce == nonce else nonce
        number = 0
        while True:
            yield f"{prefix.prefix}{save_id}_{number}"
            number += 1

    def _files(self, names: Iterator[str], items: Sequence[WriteItem]) -> Iterator[ItemFile]:
        if self._format == "safetensors":
            others = [item for item in items if item.type == WriteItemType.BYTE_IO]
            for group in self._grouped(others):
                yield ItemFile(f"{next(names)}{_SUFFIX}", group)
            tensors = [item for item in items if item.type != WriteItemType.BYTE_IO]
            for group in self._grouped(tensors):
                for unique in _with_distinct_names(group):
                    yield ItemFile(f"{next(names)}{SAFETENSORS_SUFFIX}", unique, safetensors=True)
            return
        for group in self._grouped(items):
            yield ItemFile(f"{next(names)}{_SUFFIX}", group)

    def _grouped(self, items: Sequence[WriteItem]) -> Iterable[list[WriteItem]]:
        if not self.single_file_per_rank:
            return [[item] for item in items]
        return [group for group in split_by_size_and_type(self.thread_count, list(items)) if group]

    def _check_complete(self, metadata: Metadata, written: dict[MetadataIndex, Any]) -> None:
        planned = set[MetadataIndex]().union(*self._saves.current.planned)
        # A planner that caches plans may send empty plans, but it always sends the metadata.
        for name, entry in metadata.state_dict_metadata.items():
            if isinstance(entry, TensorStorageMetadata):
                planned |= {MetadataIndex(name, chunk.offsets) for chunk in entry.chunks}
            else:
                planned.add(MetadataIndex(name))
        missing = sorted(index.fqn for index in planned - written.keys())
        if missing:
            raise OssIntegrityError(
                f"{len(missing)} of {len(planned)} items of the checkpoint {self._uri} were not written: "
                f"{describe(missing)}. The checkpoint is not published; the previous one is unchanged"
            )

    def _old_files(self) -> set[str]:
        """Return the names of the files of the existing checkpoint."""
        if not self.overwrite:
            return set()
        try:
            return files_of(read_metadata(self._client, self._metadata_uri))
        except OssNotFoundError:
            return set()
        except OssPermissionError as error:
            # A key that may only write saves to a new place; what it replaces elsewhere stays, and harms nothing.
            _logger.warning(
                "the key may not read %s: if there was a checkpoint, its files are not deleted; "
                "`osst checkpoint rm --leftovers %s` deletes them: %s",
                self._metadata_uri,
                self._uri,
                error,
            )
            return set()
        except OssIntegrityError as error:
            _logger.warning("the checkpoint to be replaced cannot be read, so its files are not deleted: %s", error)
            return set()

    def _take_back(self, names: Iterable[str], cause: Exception) -> None:
        uris = [join(self._uri, name) for name in names]
        try:
            self._client.delete_many(uris)
        except OssError as error:
            cause.add_note(f"files of this failed save could not be deleted: {describe(uris)}: {error}")

    def _delete(self, names: Iterable[str]) -> None:
        uris = sorted(join(self._uri, name) for name in names)
        try:
            self._client.delete_many(uris)
        except OssError as error:
            # The new checkpoint is complete: only deleting the old files failed.
            _logger.warning(
                "%s is saved, but %d files of the previous checkpoint could not be deleted; "
                "`osst checkpoint rm --leftovers %s` deletes them: %s",
                self._uri,
                len(uris),
                self._uri,
                error,
            )


def _format_of(given: Any) -> tuple[Any, str]:  # noqa: ANN401 - torch's enumeration
    """Return the member of torch's enumeration, or its value if torch has none, and the value."""
    name = "torch_save" if given is None else getattr(given, "value", given)
    if name not in {"torch_save", "safetensors"}:
        raise OssConfigError(f"serialization_format must be 'torch_save' or 'safetensors', got {given!r}")
    return (name if SerializationFormat is None else SerializationFormat(name)), name


def _with_distinct_names(items: Sequence[WriteItem]) -> list[list[WriteItem]]:
    """Split items so that no list has two shards of the same tensor: a safetensors file holds each name once."""
    lists: list[list[WriteItem]] = []
    counts: dict[str, int] = {}
    for item in items:
        number = counts.get(item.index.fqn, 0)
        counts[item.index.fqn] = number + 1
        if number == len(lists):
            lists.append([])
        lists[number].append(item)
    return lists
