"""Checks that run at the same time, each with a time limit of its own."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from osstorchconnector.cli.doctor_checks.finding import Finding, failure
from osstorchconnector.exceptions import OssError


@dataclass
class Probe:
    """One check.

    Attributes:
        name: Name of its line if it fails as a whole.
        run: Makes the check. What a generator has yielded counts, also if it is given up.
        limit: Seconds until it is given up.
    """

    name: str
    run: Callable[[], Iterable[Finding]]
    limit: float
    _found: list[Finding] = field(default_factory=list, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _ended: bool = field(default=False, init=False)

    def start(self) -> threading.Thread:
        """Start it in a thread. The end of the program does not wait for that thread."""
        thread = threading.Thread(target=self._run, name=f"osst-doctor-{self.name}", daemon=True)
        thread.start()
        return thread

    def result(self) -> list[Finding]:
        """Return what it found until now; an error and silence are findings too."""
        error, found = self._error, list(self._found)
        if isinstance(error, (OSError, OssError)):
            return [*found, failure(self.name, str(error), "see the message")]
        if error is not None:
            raise error
        if not self._ended:
            text = f"no answer within {self.limit:.1f} seconds"
            found.append(failure(self.name, text, "the network or the machine is too slow or blocked; try again"))
        return found

    def _run(self) -> None:
        try:
            for finding in self.run():
                self._found.append(finding)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asks for the result
            self._error = error
        self._ended = True


def run_probes(probes: Sequence[Probe], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Run checks at the same time, until the last one has ended or was given up.

    Args:
        probes: The checks.
        meanwhile: Called in this thread while they run.
    """
    started = time.monotonic()
    threads = [probe.start() for probe in probes]
    meanwhile()
    for probe, thread in zip(probes, threads, strict=True):
        thread.join(max(0.0, started + probe.limit - time.monotonic()))
