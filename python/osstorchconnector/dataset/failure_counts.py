"""The number of failures of each class, over all processes of a dataset."""

import os
from pathlib import Path
from typing import Any

from osstorchconnector._native import DataObject
from osstorchconnector.dataset.options import FAILURE_CLASSES, FailureClass, Policy
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.exceptions import OssConfigError, OssError, OssErrorLimitError, OssNotFoundError


def is_about(error: Exception, item: DataObject) -> bool:
    """Return whether an error is about this object, not about another one that the transform read."""
    return isinstance(error, OssError) and (error.bucket, error.key) == (item.bucket, item.name)


def failure_class_of(error: Exception) -> FailureClass | None:
    """Return the failure class of an object's error, or None if the error is not about one object."""
    match error:
        case OssNotFoundError():
            return "missing"
        case OssConfigError():
            # For instance there is no access key: then all objects fail.
            return None
        case OssError():
            return "unreadable"
        case _:
            return None


class FailureCounts:
    """How many failures of each class there were, in this process and in the workers.

    Each failure adds one byte to a file. Appending is atomic between processes, and needs no lock that a killed worker
    would keep. Failures are rare.
    """

    def __init__(self, directory: PrivateDirectory) -> None:
        """Begin with no failures."""
        self._directory = directory
        self._before = dict.fromkeys(FAILURE_CLASSES, 0)

    def add(self, failure: FailureClass, error: Exception) -> None:
        """Count a failure.

        Args:
            failure: Its class.
            error: The error of the object.

        Raises:
            Exception: The error, for any policy, if it cannot be counted; a note says why.
        """
        try:
            file = os.open(self._directory.make() / _name(failure), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, b".")
            finally:
                os.close(file)
        except (OSError, OssConfigError) as cause:
            error.add_note(
                f"this failure cannot be counted, so on_error does not apply: {cause}; set TMPDIR to a directory "
                "with free space that this user can write to"
            )
            raise error from cause

    def read(self) -> dict[FailureClass, int]:
        """Return the counts by class."""
        return {
            failure: before + _size(self._directory.path / _name(failure)) for failure, before in self._before.items()
        }

    def check(self, policy: Policy, error: Exception) -> None:
        """Compare the counts with the limit of the policy.

        Raises:
            OssErrorLimitError: There were more failures; the error is its cause.
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
        """Return the directory and the counts: a copy with another directory begins with them."""
        return {"directory": self._directory, "before": self._before, "all": self.read(), "path": self._directory.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over the counts, or use the same files."""
        self._directory = state["directory"]
        shared = self._directory.path == state["path"]
        self._before = state["before"] if shared else state["all"]


def _name(failure: FailureClass) -> str:
    return f"failures-{failure}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
