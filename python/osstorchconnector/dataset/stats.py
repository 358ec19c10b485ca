"""How the readers of a dataset spent their time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

#: What the readers of a dataset count, as whole numbers; times in nanoseconds.
WORDS: Final = ("samples", "passed", "waited", "transformed", "with_workers", "requests", "retries", "throttled")
SECOND: Final = 1_000_000_000
# Workers that spend more of their time outside have batches ready that nobody takes. Collating and sending a batch take
# less of it, unless the program's `collate_fn` is slow.
_IDLE: Final = 0.25


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """How the readers of a dataset spent their time, in this process and in its DataLoader workers.

    Attributes:
        samples: Samples that were delivered. Objects that failed count too, also if ``on_error`` left them out.
        seconds: From the beginning of each iteration to its end or to now, all readers together: two workers count two
            seconds in one.
        waiting_seconds: Of these, waiting for objects or for the listing.
        transform_seconds: Of these, running the transform.
        program_seconds: All the rest: between two samples. Without workers, the training step; in a worker, collating,
            sending, and waiting until the loader takes the next batch. A persistent worker of an iterable dataset waits
            for it until the next loop begins, if the program left the one before early.
        has_workers: Whether DataLoader workers read.
        requests: Requests that the reading processes sent meanwhile.
        retries: Of these, those that were sent because an attempt had failed.
        throttled: Of these, those that OSS had refused because there were too many.
    """

    samples: int
    seconds: float
    waiting_seconds: float
    transform_seconds: float
    program_seconds: float
    has_workers: bool
    requests: int
    retries: int
    throttled: int

    @classmethod
    def of(cls, words: Mapping[str, int]) -> Self:
        """Return what these numbers say, which have the names of ``WORDS``."""
        passed, waited, transformed = (words[name] / SECOND for name in ("passed", "waited", "transformed"))
        return cls(
            samples=words["samples"],
            seconds=passed,
            waiting_seconds=waited,
            transform_seconds=transformed,
            program_seconds=max(0.0, passed - waited - transformed),
            has_workers=words["with_workers"] > 0,
            requests=words["requests"],
            retries=words["retries"],
            throttled=words["throttled"],
        )

    @property
    def waits_for(self) -> str:
        """What the job waits for: ``"OSS"``, ``"transform"``, ``"program"``; ``"nothing"`` before the first sample."""
        if not self.samples:
            return "nothing"
        if self.has_workers and self.program_seconds > _IDLE * self.seconds:
            return "program"
        shares = {"OSS": self.waiting_seconds, "transform": self.transform_seconds}
        if not self.has_workers:
            shares["program"] = self.program_seconds
        return max(shares, key=shares.__getitem__)

    def __str__(self) -> str:
        """Return one sentence that says what the job waits for, and the numbers behind it."""
        if not self.samples:
            return "no sample was read yet"
        said = {
            "OSS": "the job waits for OSS",
            "transform": "the job waits for its transform",
            "program": "the job waits for the program that takes the samples, not for OSS",
        }[self.waits_for]
        total = self.seconds or 1.0
        parts = {
            "waiting for OSS": self.waiting_seconds,
            "transforming": self.transform_seconds,
            "outside the dataset": self.program_seconds,
        }
        shown = ", ".join(f"{seconds / total:.0%} {name}" for name, seconds in parts.items())
        failed = f"; {self.retries} of {self.requests} requests were retries" if self.retries else ""
        throttled = f", {self.throttled} after OSS asked for fewer" if self.throttled else ""
        return f"{said}: {self.samples:,} samples, {shown} of {self.seconds:.1f} s of its readers{failed}{throttled}"
