"""Counting what could not be delivered, over all processes of a dataset."""

import os
from pathlib import Path
from typing import Any

from osstorchconnector._native import DataObject
from osstorchconnector.dataset.options import FAILURES, Failure, Policy
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.exceptions import OssConfigError, OssError, OssErrorLimitError, OssNotFoundError


def is_of(error: Exception, item: DataObject) -> bool:
    """Return whether an error is about this object, not another one that a transform read."""
    return isinstance(error, OssError) and (error.bucket, error.key) == (item.bucket, item.name)


def failure_of(error: Exception) -> Failure | None:
    """Return the class of failure of an object's error, or None where the object is not to blame."""
    match error:
        case OssNotFoundError():
            return "missing"
        case OssConfigError():
            # No access key, say: all objects fail alike.
            return None
        case OssError():
            return "unreadable"
        case _:
            return None


class FailureCounts:
    """How many failures of each class there were, in this process and in the workers.

    Each failure is one byte at the end of a file: appending is atomic between processes, needs no lock that a killed
    worker would keep, and failures are rare.
    """

    def __init__(self, directory: PrivateDirectory) -> None:
        """Begin with none."""
        self._directory = directory
        self._before = dict.fromkeys(FAILURES, 0)

    def add(self, failure: Failure, error: Exception) -> None:
        """Count one.

        Args:
            failure: Its class.
            error: What the object failed with.

        Raises:
            Exception: The error, whatever the policy says, where it cannot be counted; a note says why.
        """
        try:
            file = os.open(self._directory.make() / _name(failure), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, b".")
            finally:
                os.close(file)
        except (OSError, OssConfigError) as cause:
            error.add_note(
                f"this failure cannot be counted, so on_error does not apply: {cause}; let TMPDIR name a directory "
                "with room that this user can write to"
            )
            raise error from cause

    def read(self) -> dict[Failure, int]:
        """Return the counts by class."""
        return {
            failure: before + _size(self._directory.path / _name(failure)) for failure, before in self._before.items()
        }

    def check(self, policy: Policy, error: Exception) -> None:
        """Raise where there were more failures than the policy bears.

        Raises:
            OssErrorLimitError: There were; the error is its cause.
        """
        if policy.error_limit is None:
            return
        counts = self.read()
        if sum(counts.values()) > policy.error_limit:
            listed = ", ".join(f"{count} {failure}" for failure, count in counts.items())
            raise OssErrorLimitError(
                f"more than error_limit={policy.error_limit} objects could not be delivered ({listed}); the last one: "
                f"{type(error).__name__}: {error}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Return the directory and the counts: those in the files belong to whoever has the same directory."""
        return {"directory": self._directory, "before": self._before, "all": self.read(), "path": self._directory.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the counts over, or go on with the same files."""
        self._directory = state["directory"]
        shared = self._directory.path == state["path"]
        self._before = state["before"] if shared else state["all"]


def _name(failure: Failure) -> str:
    return f"failures-{failure}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
