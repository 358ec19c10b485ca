"""The stream that a rank writes its items to. It computes their checksums."""

import io
from typing import TYPE_CHECKING

from osstorchconnector._native import Writer, crc64, crc64_combine
from osstorchconnector.dcp.integrity import ItemRecord, block_checksums

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Everything that torch.save writes around a tensor's elements comes in smaller writes. So a larger write that has the
# length of the elements is the elements.
_LARGEST_FRAME = 4096


class ItemStream(io.RawIOBase):
    """Passes bytes on to an upload, and records position and checksums of each item."""

    def __init__(self, stream: Writer) -> None:
        """Begin a file."""
        super().__init__()
        self._stream = stream
        self._position = 0
        self._item_start = 0
        self._item_crc = 0
        self._data: memoryview | None = None
        self._data_start: int | None = None
        self._block_crcs: tuple[int, ...] = ()

    def begin_item(self, data: memoryview | None = None) -> None:
        """Begin an item.

        Args:
            data: The tensor's elements, to find them in the bytes that will be written.
        """
        self._item_start = self._position
        self._item_crc = 0
        self._data = data
        self._data_start = None
        self._block_crcs = ()

    def end_item(self) -> tuple[int, int, ItemRecord]:
        """Return where the item begins in the file, its length, and its record."""
        length = self._position - self._item_start
        data_length = 0 if self._data is None or self._data_start is None else self._data.nbytes
        record = ItemRecord(self._item_crc, self._data_start, data_length, self._block_crcs)
        return self._item_start, length, record

    def write(self, data: "Buffer", /) -> int:
        """Pass bytes on."""
        view = memoryview(data).cast("B")
        length = view.nbytes
        if self._is_data(view):
            self._data_start = self._position - self._item_start
            self._block_crcs, crc = block_checksums(view)
        else:
            crc = crc64(view)
        self._stream.write(view)
        self._item_crc = crc64_combine(self._item_crc, crc, length)
        self._position += length
        return length

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._position

    def writable(self) -> bool:
        """Return True."""
        return True

    def _is_data(self, view: memoryview) -> bool:
        if self._data is None or self._data_start is not None or view.nbytes != self._data.nbytes:
            return False
        # torch.save writes the elements at once. A short write of their length may be something else.
        return view.nbytes > _LARGEST_FRAME or (view.nbytes > 0 and view == self._data)
