"""What belongs to one save: several may run at the same time through one writer, each in a thread of its own."""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from torch.distributed.checkpoint.metadata import MetadataIndex

from osstorchconnector.dcp.metadata import new_save_id

if TYPE_CHECKING:
    from osstorchconnector.dcp.writer import OssStorageWriter


@dataclass
class OneSave:
    """The state of one save.

    Attributes:
        path: The checkpoint's URI.
        save_id: The save's identifier.
        rank: This rank, as torch gave it.
        use_collectives: Whether the ranks save together.
        is_coordinator: Whether this rank coordinates the others.
        nonce: What this rank sent with its plan.
        planned: The items in the plan of each rank.
        begun: Whether torch has set up the save. Until then, only its place is known.
    """

    path: str
    save_id: str = field(default_factory=new_save_id)
    rank: int | None = None
    use_collectives: bool = True
    is_coordinator: bool = True
    nonce: str = ""
    planned: list[set[MetadataIndex]] = field(default_factory=list)
    begun: bool = False


class _OfThread(threading.local):
    save: OneSave | None = None


class Saves:
    """The saves of one writer. torch runs each save in one thread; `async_save` starts one for each."""

    def __init__(self, path: str) -> None:
        """Begin with no save.

        Args:
            path: The place of saves for which torch names no other.
        """
        self.path = path
        self._of_thread: Final = _OfThread()
        # For programs that call the steps of one save from several threads.
        self._newest = OneSave(path)

    @property
    def current(self) -> OneSave:
        """The save of this thread, or the newest one if this thread has begun none."""
        return self._of_thread.save or self._newest

    def name(self, path: str) -> None:
        """Name the place of this thread's next save."""
        self._of_thread.save = self._newest = OneSave(path)

    def begin(self) -> OneSave:
        """Begin the save whose place was named, or one at the writer's own place."""
        if self._of_thread.save is None or self._of_thread.save.begun:
            self.name(self.path)
        save = self.current
        save.begun = True
        return save

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        """Return the place only: a save stays in its process."""
        return type(self), (self.path,)


class OfSave:
    """An attribute that torch's class gives a writer, and that belongs to the save of this thread."""

    def __set_name__(self, _: type, name: str) -> None:
        """Remember the name."""
        self._name = name

    def __get__(self, writer: "OssStorageWriter | None", _: type) -> Any:  # noqa: ANN401 - any attribute
        """Return its value."""
        return self if writer is None else getattr(writer._saves.current, self._name)  # noqa: SLF001 - its own part

    def __set__(self, writer: "OssStorageWriter", value: Any) -> None:  # noqa: ANN401 - as above
        """Set its value."""
        setattr(writer._saves.current, self._name, value)  # noqa: SLF001 - as above
