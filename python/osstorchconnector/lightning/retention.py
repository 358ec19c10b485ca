"""Which checkpoints a training may delete.

Lightning asks a plugin to remove checkpoints. For local files it first compares the path with the checkpoint that the
training resumed from, and with the directory of the callback. For other places it compares nothing. So the plugin
remembers what this process loaded and stored, and answers here.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

# What this process loaded and has not replaced since. Several plugins of a process may read one run.
_loaded: Final[set[str]] = set()


class Retention:
    """What one plugin stored, and what it has to remove later. Threads may share it."""

    def __init__(self) -> None:
        """Begin with nothing stored."""
        self._lock = threading.Lock()
        # In the order in which they were stored; the last is the newest.
        self._stored: dict[str, None] = {}
        self._directories: set[str] = set()
        self._postponed: set[str] = set()
        self._saving_thread: int | None = None
        self._has_loaded = False

    def loaded(self, uri: str) -> None:
        """Remember that the process loaded a checkpoint."""
        if not _is_temporary(uri):
            _loaded.add(uri)
            self._has_loaded = True

    def stored(self, uri: str) -> None:
        """Remember that a checkpoint was stored, whole."""
        with self._lock:
            self._stored.pop(uri, None)
            self._stored[uri] = None
            self._directories.add(uri.rpartition("/")[0])
            self._saving_thread = threading.get_ident()
            _loaded.discard(uri)

    def reason_to_keep(self, uri: str) -> str | None:
        """Return why a checkpoint must not be removed at all, or None."""
        if _is_temporary(uri):
            return None
        if uri in _loaded:
            return "this process resumed from it"
        with self._lock:
            inside = any(uri.startswith(f"{directory}/") for directory in self._directories)
            if not inside and self._directories:
                return "this training stores its checkpoints in another directory"
        return None

    def must_wait(self, uri: str) -> bool:
        """Return whether a checkpoint may be removed only after the next one is stored; then remember it.

        A plugin that saves in the background is asked to remove the previous checkpoint before the new one is stored.
        """
        with self._lock:
            if _is_temporary(uri) or not self._saves_in_background() or self._has_later(uri):
                self._stored.pop(uri, None)
                return False
            self._postponed.add(uri)
            return True

    def due(self) -> Iterator[str]:
        """Yield the postponed ones that may be removed now."""
        with self._lock:
            found = [uri for uri in self._postponed if self._has_later(uri)]
            for uri in found:
                self._postponed.discard(uri)
                self._stored.pop(uri, None)
        yield from found

    def _saves_in_background(self) -> bool:
        if self._saving_thread is None:
            # The first save may still wait for its thread.
            return self._has_loaded
        return self._saving_thread != threading.get_ident()

    def _has_later(self, uri: str) -> bool:
        names = list(self._stored)
        later = names[names.index(uri) + 1 :] if uri in self._stored else names
        return any(name not in self._postponed for name in later)

    def __reduce__(self) -> tuple[Callable[[], "Retention"], tuple[Any, ...]]:
        """Pickle as a new one: what a process stored is its own."""
        return Retention, ()


def _is_temporary(uri: str) -> bool:
    """Return whether Lightning made a checkpoint for itself, as its learning rate finder does."""
    return uri.rpartition("/")[2].startswith(".")
