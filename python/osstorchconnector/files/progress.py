"""A progress bar for long transfers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from osstorchconnector._printable import printable
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from types import ModuleType

#: Reports to a bar how many more bytes were transferred.
Advance = Callable[[int], object]


@contextmanager
def progress_bar(what: str, total: int | None, *, shown: bool) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs.

    Args:
        what: The text in front of the bar.
        total: Bytes to transfer; None if that is not known.
        shown: Whether to show a bar at all.

    Yields:
        A function to report how many more bytes were transferred.

    Raises:
        OssConfigError: ``tqdm`` is not installed.
    """
    if not shown:
        yield _nothing
        return
    with _tqdm().tqdm(desc=printable(what), total=total, unit="B", unit_scale=True, unit_divisor=1024) as bar:
        yield bar.update


def can_show() -> bool:
    """Return whether ``tqdm`` is installed."""
    try:
        _tqdm()
    except OssConfigError:
        return False
    return True


def _tqdm() -> "ModuleType":
    try:
        import tqdm  # noqa: PLC0415 - an extra, which only this needs
    except ImportError:
        raise OssConfigError("a progress bar needs tqdm: pip install tqdm") from None
    module: ModuleType = tqdm
    return module


def _nothing(_count: int) -> None:
    pass
