"""The directories below a checkpoint that ranks write their files to.

OSS splits its index by the beginnings of keys. If many ranks write keys with the same beginning, all their requests go
to the same part of the index. A strategy gives ranks directories of their own. The metadata records where each file is,
so readers need no strategy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from osstorchconnector.exceptions import OssConfigError

PrefixStrategy = Callable[[int], str]
"""Returns a rank's directory below the checkpoint, or an empty string. The coordinator calls it for every rank."""


def directory_of(strategy: PrefixStrategy | None, rank: int) -> str:
    """Return the directory that `strategy` gives to a rank, with a slash at its end unless it is empty.

    Raises:
        OssConfigError: The strategy did not return a relative path.
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
    """Gives the ranks the listed directories in turn.

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
    """Gives the ranks hexadecimal directories in turn; those of neighbouring ranks differ in their first character.

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
        # Eight digits are enough for four thousand million ranks.
        if not 1 <= self.digits <= 8:  # noqa: PLR2004
            raise OssConfigError(f"HexadecimalPrefix needs 1 to 8 digits, got {self.digits}")

    def __call__(self, rank: int) -> str:
        """Return the rank's directory."""
        # Reversed, because OSS splits its index by the first digits, and neighbouring ranks differ in the last one.
        name = f"{rank % 16**self.digits:0{self.digits}x}"[::-1]
        return _with_epoch(name, self.epoch)
