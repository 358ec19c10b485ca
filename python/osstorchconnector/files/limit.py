"""A limit on the rate of transfers."""

import threading
import time
from typing import Final

# Steps of a quarter of a second look steady and cost nothing. Smaller ones than this would be slow requests.
_STEPS: Final = 4
_SMALLEST: Final = 16 << 10
_LARGEST: Final = 32 << 20


class RateLimit:
    """Makes the threads that share it wait, so that all of them together transfer at most so many bytes a second."""

    def __init__(self, rate: int) -> None:
        """Set the rate, in bytes a second."""
        self._rate = rate
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    @property
    def step(self) -> int:
        """How many bytes to transfer at a time."""
        return max(_SMALLEST, min(_LARGEST, self._rate // _STEPS))

    def wait(self, count: int, stopped: threading.Event) -> None:
        """Wait until so many bytes may follow those before them, or until the event is set."""
        with self._lock:
            now = time.monotonic()
            # Time that passed unused is gone: it would come back as a burst.
            begin = max(self._free_at, now)
            self._free_at = begin + count / self._rate
        stopped.wait(begin - now)
