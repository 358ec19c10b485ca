"""The description of a dataset in OSS, where Ultralytics looks for one on a disk."""

import contextlib
from collections.abc import Callable, Generator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import ultralytics.engine.validator
from ultralytics.nn.autobackend import check_class_names

from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.integrations.ultralytics.class_folders import read_class_folders
from osstorchconnector.integrations.ultralytics.connection import DataSettings
from osstorchconnector.integrations.ultralytics.data_yaml import read_data_yaml

# What a validator reads in place of what its arguments name, in this thread alone.
_described: Final[ContextVar[dict[str, Any] | None]] = ContextVar("described", default=None)


def describe(settings: DataSettings, file: str | Path, task: str) -> dict[str, Any]:
    """Return the description of a dataset, as Ultralytics has it.

    Args:
        settings: How OSS is read.
        file: A YAML file, or its URI; for classification also the prefix with the splits.
        task: The task.

    Raises:
        OssConfigError: The description is wrong.
        OssError: OSS cannot be read.
    """
    if task == "classify":
        data = read_class_folders(file, settings.client)
    else:
        data = read_data_yaml(file, settings.client)
        if task == "pose" and not data.get("kpt_shape"):
            raise OssConfigError(f"{file}: the key 'kpt_shape' is missing: the number of key points and 2 or 3")
    data["names"] = check_class_names(data["names"])
    return data


@contextlib.contextmanager
def described_by(data: dict[str, Any]) -> Generator[None]:
    """Let validators take this description in the block, in this thread alone."""
    token = _described.set(data)
    try:
        yield
    finally:
        _described.reset(token)


def _or_described(check: Callable[..., Any]) -> Callable[..., Any]:
    def described(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of Ultralytics
        data = _described.get()
        return check(*args, **kwargs) if data is None else data

    return described


# A validator that runs by itself calls them in the middle of its work. All other datasets are checked as before.
ultralytics.engine.validator.check_det_dataset = _or_described(ultralytics.engine.validator.check_det_dataset)
ultralytics.engine.validator.check_cls_dataset = _or_described(ultralytics.engine.validator.check_cls_dataset)
