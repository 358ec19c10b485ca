"""Writing the items of one rank to its files, several files at a time."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult

from osstorchconnector._torch.distributed import OverlappingCpuLoader, SerialCpuLoader, item_size
from osstorchconnector._torch.distributed import StorageWriterTransforms as Transforms
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.spans import follow
from osstorchconnector.dcp.integrity import CheckedStorageInfo
from osstorchconnector.dcp.item_stream import ItemStream
from osstorchconnector.dcp.memory import bytes_of, is_plain
from osstorchconnector.dcp.paths import join
from osstorchconnector.dcp.shard_header import write_shard_header
from osstorchconnector.exceptions import OssError

if TYPE_CHECKING:
    import io


@dataclass(frozen=True)
class ItemFile:
    """A file to write: its name below the checkpoint, its items and its format."""

    name: str
    items: Sequence[WriteItem]
    safetensors: bool = False


class _StoppedError(OssError):
    """Another file could not be written."""


class ItemFileWriter:
    """Writes files, each in a thread of its own, and begins no item after one has failed."""

    def __init__(
        self,
        client: OssClient,
        checkpoint: str,
        planner: SavePlanner,
        transforms: Transforms,
        thread_count: int,
        copy_ahead: int,
    ) -> None:
        """Remember the settings that all files have in common.

        Args:
            client: The client.
            checkpoint: URI of the checkpoint.
            planner: Returns the data of each item.
            transforms: Transform the bytes of each item.
            thread_count: How many files are written at a time.
            copy_ahead: Bytes to copy from an accelerator before they are written.
        """
        self._client = client
        self._checkpoint = checkpoint
        self._planner = planner
        self._transforms = transforms
        self._thread_count = thread_count
        self._copy_ahead = copy_ahead
        self._failed = threading.Event()
        self._published: list[str] = []

    def write(self, files: Sequence[ItemFile]) -> list[WriteResult]:
        """Write all files and return the results of all items.

        Raises:
            Exception: The failure of the first file that failed. The files that this rank published are deleted.
        """
        with ThreadPoolExecutor(self._thread_count, "osst-dcp-write", follow()) as pool:
            written = [pool.submit(self._write_file, file) for file in files]
            try:
                wait(written, return_when=FIRST_EXCEPTION)
            finally:
                # After an exception or Ctrl-C the other files end at their next item.
                if any(not future.done() or future.exception() for future in written):
                    self._failed.set()
        failures = [error for future in written if (error := future.exception()) is not None]
        if failures:
            # A file that stopped because another one failed is not the cause.
            cause = next((error for error in failures if not isinstance(error, _StoppedError)), failures[0])
            self._take_back(cause)
            raise cause
        return [result for future in written for result in future.result()]

    def _take_back(self, cause: BaseException) -> None:
        try:
            self._client.delete_many(self._published)
        except OssError as error:
            cause.add_note(f"files of this failed save could not be deleted: {', '.join(self._published)}: {error}")

    def _write_file(self, file: ItemFile) -> list[WriteResult]:
        uri = join(self._checkpoint, file.name)
        results = []
        with self._client.writer(uri) as upload:
            stream = ItemStream(upload)
            for item in self._write_items(file, stream):
                offset, length, record = stream.end_item()
                descriptors = None if file.safetensors else self._descriptors()
                info = CheckedStorageInfo(file.name, offset, length, descriptors, record)
                results.append(WriteResult(item.index, length, info))
                if self._failed.is_set():
                    raise _StoppedError(f"{uri} was given up because another file of this rank could not be written")
        for result in results:
            result.storage_data.file_size = stream.tell()
        self._published.append(uri)
        return results

    def _write_items(self, file: ItemFile, stream: ItemStream) -> Iterator[WriteItem]:
        """Write one item after the other, and yield each after it was written."""
        tensors = [item for item in file.items if item.type != WriteItemType.BYTE_IO]
        for item in file.items:
            if item.type == WriteItemType.BYTE_IO:
                stream.begin_item()
                with _nothing_closed(self._transforms, item, stream) as transformed:
                    transformed.write(cast("io.BytesIO", self._planner.resolve_data(item)).getbuffer())
                yield item
        if file.safetensors:
            head, ordered = write_shard_header(tensors)
            stream.write(head)
            for item in ordered:
                self._write_elements(item, stream)
                yield item
            return
        for tensor, item in self._load(tensors):
            whole = is_plain(tensor) and tensor.untyped_storage().nbytes() == tensor.nbytes
            stream.begin_item(bytes_of(tensor) if whole and not self._transforms.extensions else None)
            with _nothing_closed(self._transforms, item, stream) as transformed:
                torch.save(tensor, transformed)
            yield item

    def _write_elements(self, item: WriteItem, stream: ItemStream) -> None:
        tensor = cast("Tensor", self._planner.resolve_data(item)).detach().cpu().contiguous()
        tensor = tensor.resolve_conj().resolve_neg()
        planned = item.tensor_data
        if planned is None or tensor.dtype != planned.properties.dtype or tensor.size() != planned.chunk.sizes:
            raise OssError(
                f"the planner planned {item.index.fqn!r} as {planned}, but then returned a tensor of {tensor.dtype} "
                f"and shape {tuple(tensor.shape)}: for the safetensors format, it must return tensors as planned"
            )
        data = bytes_of(tensor)
        stream.begin_item(data)
        stream.write(data)

    def _load(self, items: Sequence[WriteItem]) -> Iterator[tuple[Tensor, WriteItem]]:
        # As in torch: copying from the accelerator overlaps with uploading only if one thread does both.
        overlaps = self._thread_count == 1 and self._copy_ahead > 0 and torch.accelerator.is_available()
        loader = (
            OverlappingCpuLoader(self._planner.resolve_data, inflight_threshhold=self._copy_ahead)
            if overlaps
            else SerialCpuLoader(self._planner.resolve_data)
        )
        for item in items:
            loader.add(item_size(item), item)
        loader.start_loading()
        yield from cast("Iterator[tuple[Tensor, WriteItem]]", loader.values())

    def _descriptors(self) -> list[str] | None:
        # As in torch: None instead of an empty list.
        return [extension.get_descriptor() for extension in reversed(self._transforms.extensions)] or None


class _nothing_closed:  # noqa: N801 - used as a function
    """The stream for one item. At its end, extensions flush their bytes, and the file stays open."""

    def __init__(self, transforms: Transforms, item: WriteItem, stream: ItemStream) -> None:
        transformed, _ = transforms.transform_save_stream(item, stream)
        self._transformed: IO[bytes] = transformed

    def __enter__(self) -> IO[bytes]:
        return self._transformed

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._transformed.close()
