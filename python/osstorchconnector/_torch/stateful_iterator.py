"""Which iterator of a ``StatefulDataLoader`` without workers asks for an iteration or for its state.

| name | versions |
| --- | --- |
| ``torchdata.stateful_dataloader.stateful_dataloader._StatefulSingleProcessDataLoaderIter`` | all since 0.11.0 |
"""

import sys
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_MODULE: Final = "torchdata.stateful_dataloader.stateful_dataloader"
_CLASS: Final = "_StatefulSingleProcessDataLoaderIter"


class AskingIterator:
    """The iterator that asked for something when this object was made, if one did."""

    def __init__(self) -> None:
        """Find it on the stack of this thread."""
        found = _find()
        self._iterator = None if found is None else weakref.ref(found)

    def differs_from_that_of(self, earlier: "AskingIterator") -> bool:
        """Return whether an iterator asked both times, and not the same one."""
        return (
            self._iterator is not None
            and earlier._iterator is not None  # noqa: SLF001 - of this class
            and self._iterator() is not earlier._iterator()  # noqa: SLF001 - as above
        )


def _find() -> object | None:
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - its only name
    while frame is not None:
        code = frame.f_code
        if code.co_qualname.startswith(f"{_CLASS}.") and frame.f_globals.get("__name__") == _MODULE:
            variables = frame.f_locals
            found: object = variables.get("self")
            if isinstance(variables, dict):
                # Before Python 3.13 the frame keeps this copy, and with it a batch that the loader then drops.
                variables.clear()
            return found
        frame = frame.f_back
    return None
