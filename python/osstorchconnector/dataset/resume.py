"""The state that the next iteration goes on from, and which iterator that is."""

import contextlib
import json
import os
import uuid
from pathlib import Path
from typing import Any, Final

from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.state import Resume
from osstorchconnector.process.owner import Owner
from osstorchconnector.process.starting import is_starting_process
from osstorchconnector.process.worker import WHOLE, loader_iterator, worker_shard

_LOADED: Final = "resume.json"


class Pending:
    """A state that was loaded and waits for an iterator.

    One iterator goes on from it, with all its workers; the one after that begins the next epoch at its start. The state
    lies in the private directory, so that persistent workers find one that is loaded after they started.
    A worker into which a loader loads a state of its own keeps that for itself.
    """

    def __init__(self, directory: PrivateDirectory) -> None:
        """Begin without a state."""
        self._directory = directory
        self._own: tuple[Owner, Resume] | None = None

    def load(self, resume: Resume) -> None:
        """Let the next iterator go on from a state."""
        if worker_shard() is not None:
            self._own = Owner(), resume
            return
        document = {
            "id": uuid.uuid4().hex,
            "on_listing_change": resume.on_listing_change,
            "state": resume.state(),
        }
        with self._directory.written() as directory:
            # A reader finds the old one or the new one.
            temporary = directory / f"{_LOADED}.{document['id']}"
            temporary.write_text(json.dumps(document))
            temporary.replace(directory / _LOADED)

    def drop(self) -> None:
        """Forget the state."""
        self._own = None
        with contextlib.suppress(FileNotFoundError):
            (self._directory.path / _LOADED).unlink()

    def peek(self) -> Resume | None:
        """Return the state if no iterator has taken it."""
        if self._own is not None and self._own[0].is_this_process():
            return self._own[1]
        loaded = self._read()
        if loaded is None or os.path.lexists(self._claim(loaded[0])):
            return None
        return loaded[1]

    def take(self) -> Resume | None:
        """Return the state where the iterator that begins here is the one to go on from it, in all its workers."""
        if self._own is not None:
            owner, resume = self._own
            self._own = None
            if owner.is_this_process():
                return resume
        loaded = self._read()
        if loaded is None:
            return None
        name, resume = loaded
        # Links appear whole and once: whichever iterator makes it first is the one.
        claim = self._claim(name)
        iterator = loader_iterator()
        mine = f"process-{os.getpid()}" if iterator is None else f"loader-{iterator}"
        with self._directory.written(), contextlib.suppress(FileExistsError):
            claim.symlink_to(mine)
        if str(claim.readlink()) != mine:
            return None
        worker = (worker_shard() or WHOLE).index
        with self._directory.written():
            try:
                # Iterators look alike where they persist and where a program seeds torch anew: each worker takes it
                # once.
                claim.with_name(f"{claim.name}-{worker}").touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                return None
        return resume

    def _claim(self, name: str) -> Path:
        return self._directory.path / f"claim-{name}"

    def _read(self) -> tuple[str, Resume] | None:
        try:
            document = json.loads((self._directory.path / _LOADED).read_text())
        except FileNotFoundError:
            return None
        return document["id"], Resume.from_state(document["state"], document["on_listing_change"])

    def __getstate__(self) -> dict[str, Any]:
        """Return the directory for a process that is being started, else also the state that nobody has taken."""
        waiting = None if is_starting_process() else self.peek()
        return {"directory": self._directory, "waiting": waiting}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take both."""
        self.__init__(state["directory"])  # type: ignore[misc]
        if state["waiting"] is not None:
            self.load(state["waiting"])
