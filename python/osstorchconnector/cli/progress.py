"""What a transfer shows on a terminal while it runs: bytes, objects, and the rate."""

import argparse
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from osstorchconnector._printable import printable
from osstorchconnector.cli.output import human

if TYPE_CHECKING:
    from tqdm import tqdm

# Five times a second look alive; more often would cost.
_SECONDS: Final = 0.2


class Progress:
    """Counts bytes and objects, and shows them on standard error: a bar if ``tqdm`` is installed, else a line."""

    def __init__(self, what: str, total: int | None, *, shown: bool) -> None:
        """Prepare.

        Args:
            what: The text in front.
            total: Bytes to transfer; None if that is not known.
            shown: Whether to show anything.
        """
        self._what, self._total, self._shown = printable(what), total, shown
        self._bytes = self._objects = 0
        self._lock = threading.Lock()
        self._width = 0
        self._begin = self._drawn = time.monotonic()
        self._bar: tqdm[Any] | None = self._make_bar() if shown else None

    def _make_bar(self) -> "tqdm[Any] | None":
        try:
            from tqdm import tqdm  # noqa: PLC0415 - an extra, which only this needs
        except ImportError:
            return None
        return tqdm(desc=self._what, total=self._total, unit="B", unit_scale=True, unit_divisor=1024)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last state, and end the line."""
        if self._bar is not None:
            self._bar.close()
        elif self._shown:
            self._draw()
            sys.stderr.write("\n")

    def advance(self, count: int) -> None:
        """Count transferred bytes."""
        with self._lock:
            self._bytes += count
            if self._bar is not None:
                self._bar.update(count)
            elif self._shown and time.monotonic() - self._drawn >= _SECONDS:
                self._draw()

    def object_done(self) -> None:
        """Count an object that is whole."""
        with self._lock:
            self._objects += 1
            if self._bar is not None:
                self._bar.set_postfix_str(f"objects: {self._objects}", refresh=False)

    def _draw(self) -> None:
        self._drawn = now = time.monotonic()
        of = "" if self._total is None else f" of {human(self._total)}"
        rate = human(self._bytes / max(now - self._begin, 1e-9))
        objects = "1 object" if self._objects == 1 else f"{self._objects} objects"
        line = f"{self._what}: {objects}, {human(self._bytes)}{of}, {rate}/s"
        # Spaces cover what a longer line left.
        sys.stderr.write(f"\r{line:<{self._width}}")
        self._width = len(line)
        sys.stderr.flush()


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command."""
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show bytes, objects and the rate while it runs (default: if standard error is a terminal)",
    )


def wants_progress(options: argparse.Namespace) -> bool:
    """Return whether to show it."""
    wanted: bool | None = options.progress
    return sys.stderr.isatty() if wanted is None else wanted
