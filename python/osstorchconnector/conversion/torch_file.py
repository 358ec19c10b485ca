"""Writing a file of ``torch.save``, storage by storage."""

import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

from osstorchconnector._torch.skeleton import fake_tensors, save_skeleton
from osstorchconnector.conversion.source import Source
from osstorchconnector.dcp.memory import bytes_of
from osstorchconnector.exceptions import OssIntegrityError

# torch writes the elements of a tensor at a multiple of it, so that a program can map them.
_ALIGNMENT: Final = 64
_LOCAL_HEADER: Final = 30
_ZIP64: Final = struct.Struct("<HHQQ").size
_PADDING: Final = struct.Struct("<HH")
# torch gives its padding this number.
_PADDING_ID: Final = 0x4246
_DATA: Final = "/data/"


def write_torch_file(source: Source, file: IO[bytes], advance: Callable[[int], object]) -> None:
    """Write the nested dictionaries of a checkpoint as ``torch.save`` does.

    Args:
        source: The checkpoint.
        file: An open file. It is written from its beginning to its end.
        advance: Called with the number of bytes of tensors that were written.
    """
    import torch  # noqa: PLC0415 - loaded already

    empty: dict[str, Any] = fake_tensors(
        lambda: {name: torch.empty(info.shape, dtype=info.dtype) for name, info in source.tensors.items()}
    )

    def leaf(name: str) -> object:
        kept = source.aliases.get(name, name)
        return empty[kept] if kept in empty else source.objects[name]

    content = source.nested(leaf)
    # torch numbers storages in the order in which it finds them.
    order = list(dict.fromkeys(source.aliases.get(name, name) for name in _in_order(source, content)))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "archive")
        save_skeleton(content, str(path))
        with zipfile.ZipFile(path) as skeleton, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            tensors = source.read(order)
            for entry in skeleton.infolist():
                if _DATA not in entry.filename:
                    _add(archive, entry.filename, memoryview(skeleton.read(entry)))
                    continue
                name, tensor = next(tensors)
                if tensor.nbytes != entry.file_size:
                    raise OssIntegrityError(
                        f"{source.place}: tensor {name!r} has {tensor.nbytes} bytes, not {entry.file_size}"
                    )
                _add(archive, entry.filename, bytes_of(tensor))
                advance(tensor.nbytes)


def _in_order(source: Source, content: dict[Any, Any]) -> list[str]:
    """Return the names of tensors in the order of the dictionaries."""
    names = {source.paths.get(name, (name,)): name for name in (*source.tensors, *source.aliases)}
    found: list[str] = []

    def walk(node: Any, above: tuple[Any, ...]) -> None:  # noqa: ANN401 - nested dictionaries and lists
        if above in names:
            found.append(names[above])
        elif isinstance(node, dict | list):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                walk(value, (*above, key))

    walk(content, ())
    return found


def _add(archive: zipfile.ZipFile, name: str, data: memoryview) -> None:
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_STORED
    position: int = archive.fp.tell()  # type: ignore[union-attr]
    large = data.nbytes * 1.05 > zipfile.ZIP64_LIMIT
    start = position + _LOCAL_HEADER + len(name.encode()) + (_ZIP64 if large else 0) + _PADDING.size
    padding = -start % _ALIGNMENT
    entry.extra = _PADDING.pack(_PADDING_ID, padding) + b"Z" * padding
    entry.file_size = data.nbytes
    with archive.open(entry, "w", force_zip64=large) as record:
        for offset in range(0, data.nbytes, 8 << 20):
            record.write(data[offset : offset + (8 << 20)])
