"""The tensors of a model: their names, shapes, types, and where their bytes are."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import torch

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_object
from osstorchconnector.exceptions import OssFormatError, OssNotFoundError
from osstorchconnector.model.blocks import Chunk, overlap
from osstorchconnector.model.layout import Layout
from osstorchconnector.safetensor.header import TensorRange
from osstorchconnector.safetensor.opened import OpenedFile, open_file

# All headers are read before anything else: they are small, and their latency adds up.
_HEADERS_AT_A_TIME: Final = 32


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a model, as it is stored.

    Attributes:
        name: Its name.
        dtype: The name of its type in the format, such as ``"BF16"``.
        shape: Its shape in torch.
        nbytes: Bytes of its elements.
        files: The URIs of the objects that hold it: one, except for shards of a distributed checkpoint.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    files: tuple[str, ...]
    chunks: tuple[Chunk, ...] = field(repr=False)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Its type in torch.

        Raises:
            OssFormatError: This version of torch does not have the type.
        """
        try:
            return TensorRange(self.dtype, self.shape, 0, 0).torch_dtype()
        except OssFormatError as error:
            raise OssFormatError(f"tensor {self.name!r} of {self.files[0]} cannot be loaded: {error}") from None


@dataclass(frozen=True)
class OpenedModel:
    """The opened objects of a model.

    Attributes:
        files: Each object with its header, by URI, in their order.
        tensors: The tensors by name, in the order in which they are stored.
        metadata: The texts that are stored beside the tensors. If several objects have a text, the first counts.
    """

    files: dict[str, OpenedFile]
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]

    def close(self) -> None:
        """Close the objects."""
        for file in self.files.values():
            file.reader.close()


def open_tensors(client: OssClient, layout: Layout) -> OpenedModel:
    """Open all objects of a model and read their headers.

    Raises:
        OssNotFoundError: An object is missing; the message names a tensor that it holds.
        OssFormatError: An object is not a safetensors file, or the objects do not fit together.
    """
    files: dict[str, OpenedFile] = {}
    model = OpenedModel(files, {}, {})
    with ThreadPoolExecutor(min(_HEADERS_AT_A_TIME, max(1, len(layout.files))), "osst-model-headers") as pool:
        opening = {uri: pool.submit(open_file, client, uri) for uri in layout.files}
        try:
            for uri, future in opening.items():
                files[uri] = _result(future, uri, layout)
        except BaseException:
            for future in opening.values():
                future.cancel()
            for future in opening.values():
                if not future.cancelled() and future.exception() is None:
                    future.result().reader.close()
            raise
    try:
        for file in files.values():
            model.metadata.update(
                {key: text for key, text in file.header.metadata.items() if key not in model.metadata}
            )
        model.tensors.update((info.name, info) for info in _tensors(files, layout))
    except BaseException:
        model.close()
        raise
    return model


def _result(opening: "Future[OpenedFile]", uri: str, layout: Layout) -> OpenedFile:
    try:
        return opening.result()
    except OssNotFoundError as error:
        if layout.said_by == uri:
            raise
        held = "" if layout.index is None else f" for tensor {_first_of(uri, layout.index)!r}"
        bucket, key = split_object(uri)
        raise OssNotFoundError(
            f"{uri} is missing, which {layout.said_by} names{held}: the model is incomplete; store it again",
            code=error.code,
            status=error.status,
            request_id=error.request_id,
            bucket=bucket,
            key=key,
        ) from error


def _first_of(uri: str, index: Mapping[str, str]) -> str:
    return next(name for name, file in index.items() if file == uri)


def _tensors(files: Mapping[str, OpenedFile], layout: Layout) -> Iterator[TensorInfo]:
    """Put the tensors of all headers together.

    Raises:
        OssFormatError: The index names what is missing, two objects hold the same tensor, or parts of one are missing.
    """
    found: dict[str, list[tuple[TensorRange, Chunk]]] = {}
    for uri, file in files.items():
        offsets = _offsets(file, uri)
        for name, place in file.header.tensors.items():
            if layout.index is not None and layout.index.get(name) != uri:
                continue
            shape = place.torch_shape()
            begin = offsets.get(name, (0,) * len(shape))
            if len(begin) != len(shape) or any(first < 0 for first in begin):
                raise OssFormatError(f"{uri} states offsets {begin} for tensor {name!r}, whose shape is {shape}")
            found.setdefault(name, []).append((place, Chunk(uri, place.start, place.end, begin, shape)))
    for name, uri in (layout.index or {}).items():
        if name not in found:
            raise OssFormatError(f"{uri} has no tensor {name!r}, but {layout.said_by} says that it has")
    for name, stored in found.items():
        yield _put_together(name, stored)


def _offsets(file: OpenedFile, uri: str) -> dict[str, tuple[int, ...]]:
    if "DCP_SHARDING_INFO" not in file.header.metadata:
        return {}
    # Only checkpoints need torch.distributed.
    from osstorchconnector.dcp.shard_header import shard_offsets  # noqa: PLC0415

    return {name: tuple(offsets) for name, offsets in shard_offsets(file.header.metadata, uri).items()}


def _put_together(name: str, stored: Sequence[tuple[TensorRange, Chunk]]) -> TensorInfo:
    first, chunk = stored[0]
    chunks = tuple(chunk for _, chunk in stored)
    files = tuple(dict.fromkeys(chunk.file for chunk in chunks))
    if len(chunks) == 1:
        shape = tuple(begin + length for begin, length in zip(chunk.begin, chunk.shape, strict=True))
    else:
        if len({(place.dtype, len(chunk.shape)) for place, chunk in stored}) > 1:
            raise OssFormatError(f"{files[0]} and {files[-1]} state different types of tensor {name!r}")
        shape = tuple(max(box[axis][1] for box in (chunk.box for chunk in chunks)) for axis in range(len(chunk.shape)))
        if overlap(chunks):
            raise OssFormatError(
                f"{files[0]} and {files[-1]} both hold tensor {name!r}: the directory holds two models, or files of an "
                "older one; make an index that names the file of each tensor"
            )
    if sum(math.prod(chunk.shape) for chunk in chunks) != math.prod(shape):
        raise OssFormatError(f"{files[0]} holds a part of tensor {name!r} only, and no file holds the rest")
    nbytes = sum(chunk.end - chunk.start for chunk in chunks)
    return TensorInfo(name, first.dtype, shape, nbytes, files, chunks)
