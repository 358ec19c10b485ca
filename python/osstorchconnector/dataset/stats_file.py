"""The numbers that the readers of a dataset count, in a file that they and ``osst top`` share."""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from osstorchconnector.dataset.private_directory import PrivateDirectory, living
from osstorchconnector.dataset.stats import WORDS
from osstorchconnector.exceptions import OssConfigError

_logger: Final = logging.getLogger(__name__)

_NUMBERS: Final = "stats.json"
_ABOUT: Final = "about.json"
# Each number has at most 20 digits. A file of one length is written by one call, so it is never half of one state.
_LENGTH: Final = 512


class StatsFile:
    """Adds up the numbers of all readers of one dataset.

    Without a directory that can be written to, each process counts for itself: statistics must not end a job.
    """

    def __init__(self, directory: PrivateDirectory, kind: str, place: str) -> None:
        """Begin at zero; see :class:`~osstorchconnector.dataset.reading_time.ReadingTime`."""
        self._directory = directory
        self._about = {"kind": kind, "place": place}
        self._own = dict.fromkeys(WORDS, 0)
        self._has_warned = False

    def add(self, words: Sequence[int]) -> None:
        """Add the numbers of ``WORDS``."""
        try:
            with self._open() as file:
                total = _numbers(os.pread(file, _LENGTH, 0))
                added = {name: total[name] + word for name, word in zip(WORDS, words, strict=True)}
                os.pwrite(file, json.dumps(added).ljust(_LENGTH).encode(), 0)
        except (OSError, OssConfigError) as error:
            if not self._has_warned:
                self._has_warned = True
                _logger.warning("the statistics of this process are not added to those of others: %s", error)
            for name, word in zip(WORDS, words, strict=True):
                self._own[name] += word

    def read(self) -> dict[str, int]:
        """Return the sums so far."""
        try:
            total = _numbers((self._directory.path / _NUMBERS).read_bytes())
        except OSError:
            total = dict.fromkeys(WORDS, 0)
        return {name: total[name] + self._own[name] for name in WORDS}

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Open the file, and keep other readers out. The kernel releases the lock of a worker that is killed."""
        folder = self._directory.make()
        file = os.open(folder / _NUMBERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if os.fstat(file).st_size == 0:
                    (folder / _ABOUT).write_text(json.dumps(self._about))
                yield file
            finally:
                # A process that is forked meanwhile has the file too, so closing it would not release the lock.
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            os.close(file)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but this process's own numbers."""
        return {**self.__dict__, "_own": dict.fromkeys(WORDS, 0)}


class Job(NamedTuple):
    """A dataset that a process of this user reads now."""

    process: int
    directory: Path
    kind: str
    place: str
    numbers: dict[str, int]
    #: When they were written, in seconds since 1970.
    written: float


def running_jobs(parent: Path) -> list[Job]:
    """Return the datasets of this user's processes that have delivered a sample, by process and place.

    Args:
        parent: The directory for temporary files that the processes use.
    """
    found = []
    for process, directory in living(parent):
        try:
            about = json.loads((directory / _ABOUT).read_bytes())
            file = directory / _NUMBERS
            numbers, written = _numbers(file.read_bytes()), file.stat().st_mtime
            found.append(Job(process, directory, str(about["kind"]), str(about["place"]), numbers, written))
        except (OSError, ValueError, KeyError, TypeError):
            # It has not begun, has just ended, or belongs to another release.
            continue
    return sorted(found)


def _numbers(content: bytes) -> dict[str, int]:
    if not content:
        return dict.fromkeys(WORDS, 0)
    written = json.loads(content)
    if not isinstance(written, dict):
        raise ValueError("these are no statistics")  # noqa: TRY004 - as malformed JSON
    return {name: int(written.get(name, 0)) for name in WORDS}
