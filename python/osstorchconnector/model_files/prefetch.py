"""Objects that are read ahead into memory, in the order in which they were opened, within a budget."""

import io
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.process.owner import Owner

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from osstorchconnector._native import OssReader

# Several requests have such a block. A reader waits for a whole one.
_BLOCK: Final = 32 << 20
# The blocks in flight keep all connections busy.
_THREADS: Final = 4


@dataclass(eq=False)
class _Block:
    """A part of an object.

    Attributes:
        start: Its first byte.
        length: Its bytes.
        memory: What it is received into; None before that, and after it was given back.
        failure: Why it could not be received.
        begun: Whether a thread receives it, or did.
        done: Set when it is there, or has failed.
        dropped: Whether its object was closed.
    """

    start: int
    length: int
    memory: bytearray | None = None
    failure: Exception | None = None
    begun: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False


class Prefetcher:
    """Receives blocks in the order in which they were added, in threads that end when there is nothing to do."""

    def __init__(self, budget: int) -> None:
        """Set the most bytes of all blocks that are held."""
        self._budget = budget
        self._held = 0
        self._waiting: deque[tuple[_Block, OssReader]] = deque()
        self._consumed: deque[_Block] = deque()
        self._threads = 0
        self._lock = threading.Lock()

    def add(self, blocks: list[_Block], reader: "OssReader") -> None:
        """Receive blocks after those that were added before."""
        with self._lock:
            self._waiting.extend((block, reader) for block in blocks)
            self._start_threads()

    def want(self, block: _Block, reader: "OssReader") -> bool:
        """Return whether a block is received, or was. If not, there is no room for it, and the caller reads itself."""
        with self._lock:
            if block.begun:
                return True
            self._waiting = deque(one for one in self._waiting if one[0] is not block)
            if not self._make_room(block.length):
                return False
            # It is needed before all others.
            self._waiting.appendleft((block, reader))
            self._start_threads()
            return True

    def consumed(self, block: _Block) -> None:
        """Let a block that was read to its end be given back when others need room."""
        with self._lock:
            if block.memory is not None and block not in self._consumed:
                self._consumed.append(block)
            self._start_threads()

    def drop(self, blocks: list[_Block]) -> None:
        """Give back the blocks of an object that is closed; one in flight, when it is there."""
        with self._lock:
            for block in blocks:
                block.dropped = True
                if block.done.is_set():
                    self._give_back(block)
            self._waiting = deque(one for one in self._waiting if not one[0].dropped)
            self._start_threads()

    def _give_back(self, block: _Block) -> None:
        if block.memory is not None:
            self._held -= block.length
            block.memory = None

    def _make_room(self, length: int) -> bool:
        while self._held + length > self._budget and self._consumed:
            self._give_back(self._consumed.popleft())
        return self._held + length <= self._budget

    def _start_threads(self) -> None:
        for _ in range(min(_THREADS, len(self._waiting)) - self._threads):
            # It must not hold up the end of the program.
            threading.Thread(target=self._run, name="osst-prefetch", daemon=True).start()
            # Only now: there may be no more threads. The new one waits for the lock.
            self._threads += 1

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or not self._make_room(self._waiting[0][0].length):
                    self._threads -= 1
                    return
                block, reader = self._waiting.popleft()
                block.begun = True
                self._held += block.length
                block.memory = memory = bytearray()
            try:
                block.memory = memory = bytearray(block.length)
                reader.readinto_many([(block.start, memory)], concurrent=True)
            except Exception as error:  # noqa: BLE001 - the caller who waits for the block raises it
                # Such as a lack of memory, or the ValueError of a reader that was closed meanwhile.
                block.failure = error
            with self._lock:
                block.done.set()
                if block.dropped or block.failure is not None:
                    self._give_back(block)


@guards_methods
class ModelObject(io.RawIOBase):
    """An object as a binary stream that can seek. It is read ahead into memory, which :meth:`close` gives back.

    Attributes:
        uri: The object.
        size: Its bytes.
    """

    def __init__(self, reader: "OssReader", prefetcher: Prefetcher) -> None:
        """Take an open reader, and begin to read."""
        self._owner = Owner()
        self._reader = reader
        self._prefetcher = prefetcher
        self._position = 0
        self._lock = threading.Lock()
        self.uri = reader.uri
        self.size = reader.size
        self._blocks = [_Block(start, min(_BLOCK, self.size - start)) for start in range(0, self.size, _BLOCK)]
        prefetcher.add(self._blocks, self._reader)

    @property
    def name(self) -> str:
        """The URI."""
        return self.uri

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from the start (0), the position (1) or the end (2), and return the new position."""
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence} in {self.uri}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, or all that are left; fewer only at the end.

        Raises:
            OssIntegrityError: The object was replaced since it was opened, or the bytes do not have their checksum.
            OssError: The bytes could not be fetched.
        """
        self._check_open()
        left = max(0, self.size - self._position)
        buffer = bytearray(left if size is None or size < 0 else min(size, left))
        del buffer[self.readinto(buffer) :]
        return bytes(buffer)

    def readall(self) -> bytes:
        """Return all bytes that are left."""
        return self.read()

    def readinto(self, buffer: "Buffer", /) -> int:
        """Fill a buffer and return the number of bytes: less than its length only at the end.

        Raises:
            OssError: As :meth:`read` does.
        """
        self._check_open()
        with self._lock, memoryview(buffer).cast("B") as memory:
            filled = 0
            while filled < len(memory) and self._position < self.size:
                with memory[filled:] as rest:
                    count = self._read_part(rest)
                filled += count
                self._position += count
            return filled

    def _read_part(self, memory: memoryview) -> int:
        block = self._blocks[self._position // _BLOCK]
        offset = self._position - block.start
        count = min(len(memory), block.length - offset)
        held = None
        if self._prefetcher.want(block, self._reader):
            block.done.wait()
            if block.failure is not None:
                raise block.failure
            held = block.memory
        if held is None:
            # The reader reads ahead itself.
            with memory[:count] as part:
                self._reader.seek(self._position)
                return self._reader.readinto(part)
        with memoryview(held) as view:
            memory[:count] = view[offset : offset + count]
        if offset + count == block.length:
            self._prefetcher.consumed(block)
        return count

    def close(self) -> None:
        """Give the memory back. Closing again does nothing."""
        if not self.closed and self._owner.is_this_process():
            self._prefetcher.drop(self._blocks)
            self._reader.close()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"I/O operation on closed object {self.uri}")
        self._owner.check(self.uri)

    def __repr__(self) -> str:
        """Return the URI and the size."""
        return f"{type(self).__name__}({self.uri!r}, size={self.size})"

    def __reduce__(self) -> Any:  # noqa: ANN401 - as the base class
        """Raise TypeError: it belongs to its process."""
        raise TypeError(f"{self!r} does not pickle: open it in each process")
