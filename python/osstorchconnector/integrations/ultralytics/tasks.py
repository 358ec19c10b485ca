"""Classes that are made for one task, and give way to that of the model's task."""

from collections.abc import Callable, Mapping
from typing import Any

from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.integrations.ultralytics.connection import DataSettings


def class_of_task(settings: DataSettings, task: str, part: type[Any], bases: Mapping[str, type[Any]]) -> type[Any]:
    """Return a class that reads from OSS for one task.

    Args:
        settings: How OSS is read.
        task: The task.
        part: What stands before the class of Ultralytics.
        bases: The class of Ultralytics for each task.

    Raises:
        OssConfigError: There is no such task.
    """
    if task not in bases:
        raise OssConfigError(f"task {task!r} cannot be read from OSS: the tasks are {', '.join(bases)}")
    content = {"oss_settings": settings, "oss_task": task, "__module__": part.__module__}
    # No module has a class of this name, so cloudpickle sends it to the processes of other devices with its settings.
    made = type(f"Oss{bases[task].__name__}", (part, bases[task]), content)
    made.oss_made_here = made  # type: ignore[attr-defined]
    return made


def in_place_of(
    cls: Any,  # noqa: ANN401 - a class that was made here, or is derived from one
    task: str | None,
    maker: str,
    make: Callable[[DataSettings, str], type[Any]],
) -> type[Any] | None:
    """Return the class for the task of the model; None if it is this one.

    Args:
        cls: This class.
        task: The task of the model; None: that of the class.
        maker: The function that a program calls for a class.
        make: Makes the class for another task.

    Raises:
        OssConfigError: The task is another one, and this class is derived: another class would not do what it does.
    """
    if task is None or task == cls.oss_task:
        return None
    if cls is not cls.oss_made_here:
        raise OssConfigError(
            f"{cls.__name__} is for the task {cls.oss_task!r}, but the model is for {task!r}: derive it from "
            f"{maker}(..., task={task!r})"
        )
    return make(cls.oss_settings, task)
