"""Many small tasks in threads."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from osstorchconnector.cli.ending import end_without_threads, report, said
from osstorchconnector.exceptions import OssError
from osstorchconnector.files.transfer import Stopped

# At 10 ms for each small file, more than a thousand are copied in a second. They take at most 128 MiB of memory.
THREADS: Final = 16
# Enough to keep the threads busy; few enough that a listing of millions is not held in memory.
_WAITING: Final = 4 * THREADS
# After Ctrl-C: enough to finish a write to a disk. A request may take minutes with its retries.
_PATIENCE_SECONDS: Final = 1.0


@dataclass
class Outcome:
    """How many tasks ended in which way."""

    done: int = 0
    failed: int = 0


def run_all(
    command: str, tasks: Iterable[tuple[str, Callable[[], object]]], *, stop: Callable[[], object] = lambda: None
) -> Outcome:
    """Run tasks; report each failure and continue.

    Args:
        command: The command, for messages.
        tasks: The name and the function of each.
        stop: Makes the running tasks end early, after an error of the tasks' source or Ctrl-C.
    """
    outcome = Outcome()
    waiting: dict[Future[object], str] = {}

    def collect(done: "set[Future[object]]") -> None:
        for future in done:
            name = waiting.pop(future)
            try:
                future.result()
            except BrokenPipeError:
                # The reader of the output went away, which ends the command.
                raise
            except (OSError, OssError, Stopped) as error:
                outcome.failed += 1
                report(command, f"{name}: {said(error)}")
            else:
                outcome.done += 1

    threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"osst-{command}")
    try:
        for name, task in tasks:
            waiting[threads.submit(task)] = name
            if len(waiting) >= _WAITING:
                collect(wait(waiting, return_when=FIRST_COMPLETED).done)
        collect(wait(waiting).done)
    except BaseException as error:
        stop()
        threads.shutdown(wait=False, cancel_futures=True)
        # `wait` would wait forever for a task that was cancelled before it began.
        running = [future for future in waiting if not future.cancelled()]
        _wait_for_running(running, interrupted=isinstance(error, KeyboardInterrupt))
        raise
    threads.shutdown()
    return outcome


def _wait_for_running(running: Collection[Future[object]], *, interrupted: bool) -> None:
    """Wait for what was begun, such as after a listing that failed; after Ctrl-C not for long."""
    try:
        left = wait(running, _PATIENCE_SECONDS if interrupted else None).not_done
    except KeyboardInterrupt:
        end_without_threads()
        raise
    if left:
        end_without_threads()
