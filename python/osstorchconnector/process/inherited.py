"""What a process that is being started inherits of this one, whatever pickler its data goes through."""

import os
import pickle
import weakref
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen, set_spawning_popen
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any, Final


class Inherited:
    """A value that only multiprocessing's own pickler can pickle, for a process that is being started.

    A wrapper of a dataset may pickle it with plain ``pickle`` inside that pickle, as torch's datapipes do. Unpickling
    returns the value itself.
    """

    def __init__(self, value: Any) -> None:  # noqa: ANN401 - any
        """Hold the value."""
        self.value: Final = value

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return the value as bytes of multiprocessing's pickler: a plain one is at work."""
        return pickle.loads, (_for_started_process(self.value),)


class Descriptor:
    """A file descriptor that a started process gets a duplicate of, as an ``Inherited`` value."""

    def __init__(self, number: int) -> None:
        """Hold the number of the descriptor in this process."""
        self.number: Final = number

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return the duplicate."""
        return _same, (DupFd(self.number),)


class _Duplicating:
    """The object that gives descriptors to a process that is being started; it gives each of them only once.

    Spawning fails if one descriptor is given twice. A pickler remembers what it has given, but not what another has.
    """

    def __init__(self, starter: Any) -> None:  # noqa: ANN401 - multiprocessing's
        self._starter = starter

    def duplicate_for_child(self, descriptor: int) -> Any:  # noqa: ANN401 - multiprocessing's
        own = os.dup(descriptor)
        # The child is started after it was pickled.
        weakref.finalize(self._starter, os.close, own)
        return self._starter.duplicate_for_child(own)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - multiprocessing's
        return getattr(self._starter, name)


def _for_started_process(value: object) -> bytes:
    starter = get_spawning_popen()
    set_spawning_popen(_Duplicating(starter))  # type: ignore[arg-type]
    try:
        return bytes(ForkingPickler.dumps(value))
    finally:
        set_spawning_popen(starter)


def _same(value: Any) -> Any:  # noqa: ANN401 - any
    return value


def _reduced(inherited: Inherited) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return _same, (inherited.value,)


ForkingPickler.register(Inherited, _reduced)
