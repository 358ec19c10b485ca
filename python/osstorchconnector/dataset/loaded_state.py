"""The state that was loaded, and the one iterator that resumes from it."""

import contextlib
import json
import os
import uuid
from pathlib import Path
from typing import Any, Final

from osstorchconnector._torch.stateful_iterator import AskingIterator
from osstorchconnector.dataset.epochs import IterationName
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.state import ResumePoint
from osstorchconnector.process.owner import Owner
from osstorchconnector.process.starting import is_starting_process
from osstorchconnector.process.worker import WHOLE, worker_share

_LOADED: Final = "resume.json"


class LoadedState:
    """A state that was loaded and waits for an iterator.

    One iterator resumes from it, with all its workers; the iterator after that begins an epoch at its start. The state
    is a file in the private directory, so that persistent workers find a state that is loaded after they started. If a
    loader loads a state into one worker, only that worker resumes from it.
    """

    def __init__(self, directory: PrivateDirectory) -> None:
        """Begin without a state."""
        self._directory = directory
        self._own: tuple[Owner, ResumePoint] | None = None
        self._loader = AskingIterator()

    def load(self, point: ResumePoint) -> None:
        """Let the next iterator resume from a state."""
        self._loader = AskingIterator()
        if worker_share() is not None:
            self._own = Owner(), point
            return
        document = {
            "id": uuid.uuid4().hex,
            "on_listing_change": point.on_listing_change,
            "state": point.state(),
        }
        with self._directory.written() as directory:
            # Another process finds the old state or the new one.
            temporary = directory / f"{_LOADED}.{document['id']}"
            temporary.write_text(json.dumps(document))
            temporary.replace(directory / _LOADED)

    def drop(self) -> None:
        """Forget the state."""
        self._own = None
        with contextlib.suppress(FileNotFoundError):
            (self._directory.path / _LOADED).unlink()

    def peek(self) -> ResumePoint | None:
        """Return the state, if no iterator has taken it."""
        if self._own is not None and self._own[0].is_this_process():
            return self._own[1]
        loaded = self._read()
        if loaded is None or os.path.lexists(self._claim(loaded[0])):
            return None
        return loaded[1]

    def take(self, iteration: IterationName) -> ResumePoint | None:
        """Return the state if the iteration that begins here is the one that resumes from it, in all its workers."""
        if self._own is not None:
            owner, point = self._own
            self._own = None
            if owner.is_this_process():
                return point
        loaded = self._read()
        if loaded is None:
            return None
        name, point = loaded
        # Only one process can make a link: the iteration that makes it first takes the state.
        claim = self._claim(name)
        with self._directory.written(), contextlib.suppress(FileExistsError):
            claim.symlink_to(iteration.name)
        if str(claim.readlink()) != iteration.name:
            return None
        worker = (worker_share() or WHOLE).index
        with self._directory.written():
            try:
                # The name may be uncertain, so each worker takes the state only once.
                claim.with_name(f"{claim.name}-{worker}").touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                return None
        return point

    def is_of_an_earlier_iterator(self) -> bool:
        """Return whether the state was loaded for an iterator of a loader that is not the one which begins here.

        If the state is that of a finished iterator, a loader makes an iterator from it, and another one in its place.
        """
        return AskingIterator().differs_from_that_of(self._loader)

    def _claim(self, name: str) -> Path:
        return self._directory.path / f"claim-{name}"

    def _read(self) -> tuple[str, ResumePoint] | None:
        try:
            document = json.loads((self._directory.path / _LOADED).read_text())
        except FileNotFoundError:
            return None
        return document["id"], ResumePoint.from_state(document["state"], document["on_listing_change"])

    def __getstate__(self) -> dict[str, Any]:
        """Return the directory; if no process is being started, also the state that no iterator has taken."""
        waiting = None if is_starting_process() else self.peek()
        return {"directory": self._directory, "waiting": waiting}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the directory and the state."""
        self.__init__(state["directory"])  # type: ignore[misc]
        if state["waiting"] is not None:
            self.load(state["waiting"])
