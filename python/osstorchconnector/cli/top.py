"""``osst top``: what the jobs of this user wait for, now."""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from osstorchconnector.cli.ending import say
from osstorchconnector.cli.output import emit
from osstorchconnector.cli.values import seconds
from osstorchconnector.dataset.stats import DatasetStats
from osstorchconnector.dataset.stats_file import Job, running_jobs

# Readers write twice a second. A job that has written nothing for so long does not read, or waits.
_SILENT: Final = 2.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "top",
        help="show what running jobs wait for",
        description="Show the datasets that processes of this user read: samples per second, and what they waited for "
        "in the last seconds: OSS, the transform, or the program that takes the samples. It changes nothing in them.",
    )
    parser.add_argument("--once", action="store_true", help="measure once and end")
    parser.add_argument(
        "--interval", type=seconds, default=2.0, metavar="SECONDS", help="how long to measure (default: 2)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each dataset and interval")
    parser.add_argument(
        "--directory",
        type=Path,
        default=None,
        help="the TMPDIR of the jobs (default: that of this command)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    directory = options.directory or Path(tempfile.gettempdir())
    before = {_identity(job): job for job in running_jobs(directory)}
    while True:
        time.sleep(options.interval)
        now = running_jobs(directory)
        shown = [_Shown(job, before.get(_identity(job)), options.interval) for job in now]
        if options.json:
            for each in shown:
                emit(each.as_dict())
        else:
            if sys.stdout.isatty() and not options.once:
                # Clears the terminal.
                sys.stdout.write("\x1b[H\x1b[2J")
            for line in [line for each in shown for line in each.lines()]:
                say(line)
            if not shown:
                say(
                    f"no process of this user reads a dataset; looked in {directory}, "
                    "and --directory names another TMPDIR"
                )
            sys.stdout.flush()
        if options.once:
            return 0 if shown else 1
        before = {_identity(job): job for job in now}


def _identity(job: Job) -> tuple[int, Path]:
    return job.process, job.directory


class _Shown:
    """One dataset, and what it did since it was looked at before."""

    def __init__(self, job: Job, before: Job | None, seconds: float) -> None:
        self._job = job
        numbers = job.numbers
        if before is not None:
            numbers = {name: count - before.numbers[name] for name, count in numbers.items()}
            # Whether workers read is no count.
            numbers["with_workers"] = job.numbers["with_workers"]
            # Its readers wrote at other times than this command looked.
            seconds = max(job.written - before.written, seconds)
        self._rate = numbers["samples"] / seconds if before is not None else None
        self._silent = time.time() - job.written
        self._recent = DatasetStats.of(numbers)

    @property
    def _sentence(self) -> str:
        if self._recent.samples:
            return str(self._recent)
        if self._silent > _SILENT:
            return f"no sample for {self._silent:.0f} s"
        return "no sample in this interval"

    def as_dict(self) -> dict[str, object]:
        """Return the numbers for programs."""
        recent = self._recent
        return {
            "process": self._job.process,
            "kind": self._job.kind,
            "place": self._job.place,
            "samples": self._job.numbers["samples"],
            "samples_per_second": self._rate,
            "waits_for": recent.waits_for,
            "seconds": recent.seconds,
            "waiting_seconds": recent.waiting_seconds,
            "transform_seconds": recent.transform_seconds,
            "program_seconds": recent.program_seconds,
            "retries": recent.retries,
            "throttled": recent.throttled,
            "seconds_since_written": self._silent,
        }

    def lines(self) -> list[str]:
        """Return the lines for people."""
        job = self._job
        rate = "" if self._rate is None else f", {self._rate:,.0f} a second now"
        return [
            f"process {job.process}  {job.kind}  {job.place}",
            f"  {job.numbers['samples']:,} samples{rate}",
            f"  {self._sentence}",
        ]
