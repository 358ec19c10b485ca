"""The header of a safetensors object, read, checked and written as the library ``safetensors`` does it.

The library parses a header only together with its file. So this module gives it a sparse file of the object's size that
holds the header alone: the library checks the text, the tensors' ranges and the file's size, and no memory is needed.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from osstorchconnector.exceptions import OssConfigError, OssFormatError

if TYPE_CHECKING:
    from types import ModuleType

#: Bytes of the header's length in front of it, little-endian.
LENGTH_BYTES: Final = 8
#: The longest header that the library reads.
LONGEST_HEADER: Final = 100_000_000

_ALIGNMENT: Final = 8

_DTYPES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}
#: Two values in a byte: torch counts the bytes, the header counts the values.
PACKED: Final = "F4"


@dataclass(frozen=True, slots=True)
class TensorRange:
    """One tensor of a safetensors object.

    Attributes:
        dtype: The name of its type in the header, such as ``"BF16"``.
        shape: Its shape in the header.
        start: Its first byte in the object.
        end: The first byte after it.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def torch_dtype(self) -> torch.dtype:
        """Return its type in torch.

        Raises:
            OssFormatError: This version of torch does not have the type.
        """
        dtype = getattr(torch, _DTYPES.get(self.dtype, ""), None)
        if not isinstance(dtype, torch.dtype):
            raise OssFormatError(f"torch {torch.__version__} has no type for {self.dtype}")
        return dtype

    def torch_shape(self) -> tuple[int, ...]:
        """Return its shape in torch."""
        if self.dtype != PACKED or not self.shape:
            return self.shape
        return (*self.shape[:-1], self.shape[-1] // 2)


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors and texts of a safetensors object.

    Attributes:
        tensors: The range of each tensor, in the order of the ranges.
        metadata: The texts that are stored beside the tensors.
    """

    tensors: dict[str, TensorRange]
    metadata: dict[str, str]


def dtype_name(dtype: str) -> str:
    """Return the name in torch and numpy of a type of the header; empty if there is none."""
    return _DTYPES.get(dtype, "")


def library() -> "ModuleType":
    """Return the library ``safetensors``.

    Raises:
        OssConfigError: It is not installed.
    """
    try:
        import safetensors  # noqa: PLC0415 - an extra, which only this needs
    except ImportError:
        raise OssConfigError("safetensors is not installed: pip install 'safetensors>=0.8' numpy") from None
    return safetensors


def length_in(head: bytes, size: int) -> int:
    """Return how many bytes of header follow the first eight, or 0 if the library will refuse them anyway."""
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    return length if length <= min(LONGEST_HEADER, size - LENGTH_BYTES) else 0


def read_header(head: bytes, size: int, name: str) -> Header:
    """Read an object's header.

    Args:
        head: The first eight bytes and the header.
        size: Bytes of the whole object.
        name: The object, for messages.

    Raises:
        OssFormatError: The library refuses the header.
    """
    safetensors = library()
    with _sparse_file(head, size) as path:
        try:
            with safetensors.safe_open(path, framework="numpy") as opened:
                order = opened.offset_keys()
                metadata = opened.metadata()
        except safetensors.SafetensorError as error:
            raise OssFormatError(f"{name} is not a safetensors file: {error}{_cut_off(head, size)}") from None
        except OSError as error:
            # An empty file cannot be mapped.
            raise OssFormatError(f"{name} is not a safetensors file: {error.strerror or error}") from None
    parsed = json.loads(head[LENGTH_BYTES:])
    start = len(head)
    tensors = {}
    for key in order:
        begin, end = parsed[key]["data_offsets"]
        shape = tuple(parsed[key]["shape"])
        tensors[key] = TensorRange(parsed[key]["dtype"], shape, start + begin, start + end)
    return Header(tensors, dict(metadata or {}))


def write_header(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None) -> tuple[bytes, list[str]]:
    """Return the first bytes of an object, as the library writes them, and the order of the tensors after them.

    Raises:
        OssConfigError: A tensor or a text cannot be stored.
    """
    safetensors = library()
    # The library sorts empty tensors and names their types, and has nothing to copy.
    specs = {}
    for key, tensor in tensors.items():
        if not isinstance(key, str):
            raise OssConfigError(f"a tensor's name must be a string, got {key!r}")
        dtype = str(tensor.dtype).removeprefix("torch.")
        try:
            specs[key] = safetensors.TensorSpec(dtype=dtype, shape=(0,), data_ptr=0, data_len=0)
        except (safetensors.SafetensorError, ValueError):
            raise OssConfigError(
                f"tensor {key!r} is {tensor.dtype}: safetensors has no such type; convert it"
            ) from None
    try:
        template = safetensors.serialize(specs, None if metadata is None else dict(metadata))
    except (TypeError, ValueError) as error:
        raise OssConfigError(f"metadata must map strings to strings: {error}") from None
    entries: dict[str, Any] = json.loads(template[LENGTH_BYTES:])
    header: dict[str, Any] = {}
    order = [key for key in entries if key != "__metadata__"]
    if "__metadata__" in entries:
        header["__metadata__"] = entries["__metadata__"]
    offset = 0
    for key in order:
        tensor = tensors[key]
        dtype = entries[key]["dtype"]
        shape = list(tensor.shape)
        if dtype == PACKED and shape:
            shape[-1] *= 2
        end = offset + tensor.numel() * tensor.element_size()
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    head = len(text).to_bytes(LENGTH_BYTES, "little") + text
    try:
        read_header(head, len(head) + offset, "the file to be stored")
    except OssFormatError as error:
        raise OssConfigError(str(error)) from None
    return head, order


@contextlib.contextmanager
def _sparse_file(head: bytes, size: int) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("safetensors-header")
            stack.callback(os.close, descriptor)
            path = f"/proc/self/fd/{descriptor}"
        else:
            named = stack.enter_context(tempfile.NamedTemporaryFile())
            descriptor, path = named.fileno(), named.name
        with open(descriptor, "wb", closefd=False) as file:
            file.write(head)
        os.truncate(descriptor, size)
        yield path


def _cut_off(head: bytes, size: int) -> str:
    """Return which tensor of a refused file is the first that the file has not all bytes of."""
    try:
        entries = json.loads(head[LENGTH_BYTES:])
        ends = sorted((entry["data_offsets"][1], name) for name, entry in entries.items() if name != "__metadata__")
        end, name = next((end, name) for end, name in ends if len(head) + end > size)
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError):
        return ""
    return f"; it ends inside of tensor {name!r}, at byte {size} of {len(head) + end}: store the file again"
