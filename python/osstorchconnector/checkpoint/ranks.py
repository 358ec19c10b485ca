"""Steps that all ranks of a training take together: if one fails, all raise, and none waits for it."""

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import torch.distributed as dist

from osstorchconnector.exceptions import OssError

Result = TypeVar("Result")

# Longer than any upload.
_LONGEST: Final = timedelta(hours=12)
_groups: Final[dict[str, Any]] = {}

#: The rank that lists, publishes and deletes.
FIRST: Final = 0


def rank() -> int:
    """Return this process's rank; 0 without a process group."""
    return dist.get_rank() if _is_group() else FIRST


def together(action: Callable[[], Result]) -> list[Result]:
    """Run an action on every rank, and return the results of all, by rank.

    Raises:
        OssError: It failed on other ranks only; the message has their errors.
        BaseException: What the action raised on this rank.
    """
    error: BaseException | None = None
    result: Any = None
    try:
        result = action()
    except BaseException as raised:  # noqa: BLE001 - raised again, after the other ranks know
        error = raised
    outcome = (result, None if error is None else f"{type(error).__name__}: {error}")
    outcomes = _gathered(outcome)
    if error is not None:
        raise error
    failures = [f"rank {number}: {message}" for number, (_, message) in enumerate(outcomes) if message is not None]
    if failures:
        raise OssError(f"other ranks failed: {'; '.join(failures)}")
    return [cast("Result", one) for one, _ in outcomes]


def on_first(action: Callable[[], Result]) -> Result:
    """Run an action on the first rank only, and return its result on all.

    Raises:
        OssError: It failed, and this is another rank.
        BaseException: What the action raised, on the first rank.
    """
    return together(lambda: action() if rank() == FIRST else cast("Result", None))[FIRST]


def machine_leaders() -> list[int]:
    """Return for each rank the first rank of its machine, or of its container: these share disks."""
    machines = together(_machine)
    return [machines.index(machine) for machine in machines]


def _machine() -> str:
    try:
        # Containers of one machine differ in it, and processes of one container do not.
        namespace = Path("/proc/self/ns/mnt").readlink()
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii').strip()} {namespace}"
    except OSError:
        return socket.gethostname()


def _gathered(value: Any) -> list[Any]:  # noqa: ANN401 - any value that pickles
    if not _is_group():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value, group=_own_group())
    return gathered


def _own_group() -> Any:  # noqa: ANN401 - torch's, which differs between releases
    """Return a group of all ranks for these steps; the first call makes it.

    The default group may be one of GPUs, whose watchdog ends the program if a rank waits for ten minutes, and a large
    checkpoint may take longer. With gloo, a rank that ends is noticed at once.
    """
    if not dist.is_gloo_available():
        return None
    world = dist.group.WORLD
    if _groups.get("world") is not world:
        _groups.update(world=world, own=dist.new_group(backend="gloo", timeout=_LONGEST))
    return _groups["own"]


def _is_group() -> bool:
    return dist.is_available() and dist.is_initialized()
