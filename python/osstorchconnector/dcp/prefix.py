"""Where the files of each rank go below a checkpoint.

OSS splits its index by the beginnings of keys, so that many ranks that write keys with one beginning meet in one place
of it. A strategy gives ranks directories of their own; the metadata records where each file is, so that a reader needs
to know nothing about it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from osstorchconnector.exceptions import OssConfigError

PrefixStrategy = Callable[[int], str]
"""Returns a rank's directory below the checkpoint, or an empty string. The coordinator calls it for every rank."""


def directory_of(strategy: PrefixStrategy | None, rank: int) -> str:
    """Return what `strategy` says for a rank, with a slash at its end where it is not empty.

    Raises:
        OssConfigError: The strategy returned something else than a relative path.
    """
    directory = "" if strategy is None else strategy(rank)
    if not isinstance(directory, str) or directory.startswith("/") or "://" in directory:
        raise OssConfigError(
            f"the prefix strategy returned {directory!r} for rank {rank}: "
            "a path below the checkpoint is needed, like 'a1/epoch-3'"
        )
    directory = directory.rstrip("/")
    return f"{directory}/" if directory else ""


def _with_epoch(directory: str, epoch: int | None) -> str:
    return directory if epoch is None else f"{directory}/epoch-{epoch}"


@dataclass(frozen=True)
class RoundRobinPrefix:
    """Ranks take turns on given directories.

    Attributes:
        directories: Directories below the checkpoint.
        epoch: Added as ``epoch-N`` below each. Default: nothing.
    """

    directories: Sequence[str]
    epoch: int | None = None

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            OssConfigError: There is no directory.
        """
        if not self.directories or isinstance(self.directories, str):
            raise OssConfigError("RoundRobinPrefix needs a list of at least one directory, like ['a', 'b']")

    def __call__(self, rank: int) -> str:
        """Return the rank's directory."""
        return _with_epoch(self.directories[rank % len(self.directories)], self.epoch)


@dataclass(frozen=True)
class HexadecimalPrefix:
    """Ranks take turns on hexadecimal directories that differ in their first character.

    Attributes:
        digits: Length of the directories' names, from 1 to 8.
        epoch: Added as ``epoch-N`` below each. Default: nothing.
    """

    digits: int = 2
    epoch: int | None = None

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            OssConfigError: The length is out of range.
        """
        # Eight digits tell four thousand million ranks apart.
        if not 1 <= self.digits <= 8:  # noqa: PLR2004
            raise OssConfigError(f"HexadecimalPrefix needs 1 to 8 digits, not {self.digits}")

    def __call__(self, rank: int) -> str:
        """Return the rank's directory."""
        # Reversed, so that neighbouring ranks differ in the first digit, where the index is split first.
        name = f"{rank % 16**self.digits:0{self.digits}x}"[::-1]
        return _with_epoch(name, self.epoch)
