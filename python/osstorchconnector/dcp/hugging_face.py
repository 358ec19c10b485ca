"""Loading a directory of safetensors files, such as a model of Hugging Face."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.dcp.file_system import OssFileSystem
from osstorchconnector.dcp.integrity import Sidecar
from osstorchconnector.dcp.paths import name_below
from osstorchconnector.dcp.portable import portable_errors
from osstorchconnector.dcp.reader import OssStorageReader
from osstorchconnector.dcp.shard_header import SUFFIX, shard_offsets
from osstorchconnector.dcp.stored import StoredItem
from osstorchconnector.exceptions import OssFormatError, OssNotFoundError
from osstorchconnector.safetensor.header import Header
from osstorchconnector.safetensor.opened import open_file

# All headers are read before anything else: they are small, and their latency adds up.
_HEADERS_AT_A_TIME: Final = 16


@dataclass
class _TensorInfo:
    """The location of a tensor's elements: the fields of torch's reader, and the range."""

    relative_path: str
    shape: torch.Size
    dtype: torch.dtype
    offset: int
    length: int


@guards_methods
class OssHuggingFaceStorageReader(OssStorageReader):
    """Reads safetensors files as ``torch.distributed.checkpoint.HuggingFaceStorageReader`` does, from OSS.

    It reads every ``.safetensors`` file directly below the path. A file may hold whole tensors, or shards that torch's
    ``HuggingFaceStorageWriter`` or :class:`OssStorageWriter` saved. Only the tensors asked for are fetched.
    """

    def __init__(self, path: str, thread_count: int = 1, *, file_system: OssFileSystem, **options: Any) -> None:  # noqa: ANN401
        """Describe the loads; the network is not used.

        Args:
            path: The directory, like ``oss://bucket/models/llama``.
            thread_count: Accepted as torch's reader does, without effect: ranges are always read concurrently.
            file_system: The file system that holds the directory.
            options: More options of :class:`OssStorageReader`.

        Raises:
            OssConfigError: The path is no ``oss://`` URI.
        """
        super().__init__(file_system, path, **options)
        self.thread_count = thread_count

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:  # noqa: ANN401 - torch's
        """Read the files' headers.

        Raises:
            OssNotFoundError: The directory has no safetensors file.
            OssFormatError: A file is not a safetensors file, or not complete.
        """
        with portable_errors():
            uris = [uri for uri in self._file_system.ls(self._uri) if uri.endswith(SUFFIX)]
            if not uris:
                raise OssNotFoundError(f"there is no {SUFFIX} file directly below {self._uri}")
            metadata = Metadata({}, storage_data={})
            with ThreadPoolExecutor(_HEADERS_AT_A_TIME, "osst-dcp-headers") as pool:
                for uri, header in zip(uris, pool.map(self._read_header, uris), strict=True):
                    self._add_file(metadata, uri, header)
        metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata

    def _read_header(self, uri: str) -> Header:
        opened = open_file(self._client, uri)
        opened.reader.close()
        return opened.header

    def _add_file(self, metadata: Metadata, uri: str, header: Header) -> None:
        all_offsets = shard_offsets(header.metadata, uri)
        for name, place in header.tensors.items():
            shape, dtype = torch.Size(place.torch_shape()), place.torch_dtype()
            offsets = all_offsets.get(name, torch.Size([0] * len(shape)))
            end = torch.Size(offset + size for offset, size in zip(offsets, shape, strict=True))
            known = metadata.state_dict_metadata.setdefault(
                name, TensorStorageMetadata(TensorProperties(dtype=dtype), end, [])
            )
            if not isinstance(known, TensorStorageMetadata) or len(known.size) != len(end):
                raise OssFormatError(
                    f"{uri} states another number of dimensions for tensor {name!r} than other files do"
                )
            known.size = torch.Size(max(sizes) for sizes in zip(known.size, end, strict=True))
            known.chunks.append(ChunkStorageMetadata(offsets, shape))
            file = name_below(self._uri, uri)
            info = _TensorInfo(file, shape, dtype, place.start, place.end - place.start)
            metadata.storage_data[MetadataIndex(name, offsets)] = info

    def _read_sidecar(self, _metadata: Metadata) -> Sidecar | None:
        # The format holds no checksums.
        return None

    def _stored_item(self, index: MetadataIndex, info: Any) -> StoredItem:  # noqa: ANN401 - _TensorInfo
        return StoredItem(
            index.fqn, info.relative_path, info.offset, info.length, data_start=0, dtype=info.dtype, shape=info.shape
        )
