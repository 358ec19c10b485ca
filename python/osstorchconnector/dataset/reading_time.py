"""Measures how the readers of a dataset spend their time: waiting for OSS, transforming, or outside the dataset."""

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.util import Finalize
from typing import Any, Final, TypeVar

from osstorchconnector._native import Stopwatch, counts, waited_here
from osstorchconnector.connection.spans import TracedSpan, operation
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.stats import SECOND, WORDS, DatasetStats
from osstorchconnector.dataset.stats_file import StatsFile
from osstorchconnector.process.owner import Owner, PerProcess
from osstorchconnector.process.worker import worker_share

# A fast reader looks at the clock once in so many samples, so that it costs each of them next to nothing.
_LOOK_AFTER: Final = 64
# What workers have counted is at most so old. Each addition writes to a file under a lock, some microseconds.
_INTERVAL: Final = SECOND // 2


class Pass:
    """One reader that iterates."""

    def __init__(self, file: StatsFile, place: str) -> None:
        """Begin now.

        Args:
            file: Where to add to.
            place: The place of the objects.
        """
        self._file = file
        self._place = place
        self._span: TracedSpan | None = None
        #: Returns how many samples it has delivered so far.
        self.delivered: Callable[[], int] = _nothing
        #: Returns how many nanoseconds it has waited so far, apart from its transform.
        self.waited: Callable[[], int] = _nothing
        #: Measures its transform.
        self.clock: Final = Stopwatch()
        self._owner = Owner()
        self._began = self._published = time.monotonic_ns()
        self._known = [0] * len(WORDS)
        self._workers = int(worker_share() is not None)
        self._requests = _requests()
        self._looked = self._began
        self._step = 1
        self._is_over = False
        # Two threads may publish: the reader's, and one that asks for the numbers or publishes from time to time.
        self._publishing = threading.Lock()

    def trace(self) -> AbstractContextManager[None]:
        """Begin a span, if the program traces: it ends with the iteration, and has what is begun in the block."""
        self._span = TracedSpan.begin("iteration", self._place)
        return nullcontext() if self._span is None else self._span.beginning()

    def look(self) -> int:
        """Add what is new if some time has passed; return after how many samples to look again."""
        now = time.monotonic_ns()
        if now - self._published >= _INTERVAL:
            self.publish()
        if self._span is not None:
            self._span.export()
        # A slow reader looks after each sample, because the next one may come late.
        is_fast = now - self._looked < _INTERVAL // 4
        self._looked = now
        self._step = min(_LOOK_AFTER, 2 * self._step) if is_fast else 1
        return self._step

    def end(self) -> None:
        """Add what is left; time that passes from now on does not count."""
        self.publish()
        self._is_over = True
        if self._span is not None:
            self._span.end()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or belongs to another process."""
        return self._is_over or not self._owner.is_this_process()

    def publish(self) -> None:
        """Add what is new."""
        if self.is_over:
            return
        with self._publishing:
            self._publish()

    def _publish(self) -> None:
        until = self._until()
        if until == self._published:
            return
        self._published = until
        passed = until - self._began
        now = [
            self.delivered(),
            passed,
            min(passed, self.waited() + self.clock.waited),
            self.clock.ran,
            self._workers,
            *(after - before for after, before in zip(_requests(), self._requests, strict=True)),
        ]
        self._file.add([after - before for after, before in zip(now, self._known, strict=True)])
        self._known = now

    def _until(self) -> int:
        return time.monotonic_ns()


class Batches(Pass):
    """One process that fetches batches. The time after a batch counts when the next one is asked for."""

    def __init__(self, file: StatsFile, place: str) -> None:
        """Begin now."""
        super().__init__(file, place)
        self.waited = lambda: self._all_waited - self.clock.waited
        self.delivered = lambda: self._samples
        self._samples = 0
        self._all_waited = 0
        self._last = self._began
        self._fetcher = weakref.ref(self)

    @contextmanager
    def batch(self, samples: int) -> Iterator[None]:
        """Fetch and transform some samples in the block."""
        if self._workers:
            self._leave_out_pause()
        before = waited_here()
        try:
            with operation("batch", self._place):
                yield
        finally:
            self._all_waited += waited_here() - before
            self._samples += samples
            self._last = time.monotonic_ns()
            self.look()

    def _leave_out_pause(self) -> None:
        """Count no time between two epochs of a worker that stays: the program asked for nothing meanwhile."""
        from osstorchconnector._torch.loader_worker import fetcher  # noqa: PLC0415 - it needs torch

        now: Any = fetcher()
        if now is None or now is self._fetcher():
            return
        if self._samples:
            paused = time.monotonic_ns() - self._last
            with self._publishing:
                self._began += paused
                self._last += paused
                self._published += paused
        self._fetcher = weakref.ref(now)

    def _until(self) -> int:
        return self._last


Running = TypeVar("Running", bound=Pass)


class ReadingTime:
    """The times of all readers of one dataset, in all its processes."""

    def __init__(self, directory: PrivateDirectory, kind: str, place: str) -> None:
        """Begin at zero.

        Args:
            directory: Holds the file of the numbers.
            kind: What the dataset is.
            place: The place of its objects.
        """
        self._file = StatsFile(directory, kind, place)
        self._place = place
        self._passes: weakref.WeakSet[Pass] = weakref.WeakSet()
        self._batches: PerProcess[Batches] = PerProcess()

    def begin(self) -> Pass:
        """Begin an iteration of this process, before anything is fetched for it."""
        return self._begun(Pass(self._file, self._place))

    def batches(self) -> Batches:
        """Return what measures the batches of this process."""
        return self._batches.get(lambda: self._begun(Batches(self._file, self._place)))

    def _begun(self, begun: Running) -> Running:
        if worker_share() is not None:
            if not self._passes:
                # A worker ends without a word, and functions of `atexit` do not run in it.
                Finalize(self, _publish, args=(self._passes,), exitpriority=0)
            # Not before it is whole: the other thread may publish it at once.
            _publishers.get(_Publisher).add(begun)
        self._passes.add(begun)
        return begun

    def stats(self) -> DatasetStats:
        """Return the times so far; those of workers are up to half a second old."""
        _publish(self._passes)
        return DatasetStats.of(self._file.read())

    def __getstate__(self) -> dict[str, Any]:
        """Return the file and the place: which passes a process has is its own."""
        return {"_file": self._file, "_place": self._place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the file and the place."""
        self._file = state["_file"]
        self._place = state["_place"]
        self._passes = weakref.WeakSet()
        self._batches = PerProcess()


class _Publisher:
    """Publishes what a worker does, also while it waits until the program takes its samples, or for its next epoch."""

    def __init__(self) -> None:
        self._passes: weakref.WeakSet[Pass] = weakref.WeakSet()
        self._changing: Final = threading.Lock()
        self._has_passes: Final = threading.Event()
        # One for all iterations of the worker.
        threading.Thread(target=self._run, name="osst-statistics", daemon=True).start()

    def add(self, running: Pass) -> None:
        """Publish a pass until it is over."""
        with self._changing:
            self._passes.add(running)
            self._has_passes.set()

    def _run(self) -> None:
        while self._has_passes.wait():
            time.sleep(_INTERVAL / SECOND)
            self._publish()

    def _publish(self) -> None:
        # A method of its own, so that the thread keeps no pass while it waits.
        with self._changing:
            running = [each for each in self._passes if not each.is_over]
            self._passes = weakref.WeakSet(running)
            if not running:
                self._has_passes.clear()
        for each in running:
            each.publish()


_publishers: Final[PerProcess[_Publisher]] = PerProcess()


def _nothing() -> int:
    return 0


def _publish(passes: Iterable[Pass]) -> None:
    for running in list(passes):
        running.publish()


def _requests() -> tuple[int, int, int]:
    now = counts()
    return sum(now["requests"].values()), sum(now["retries"].values()), now["retries"]["throttled"]
