"""What stands for the compiled operators of mmcv, which MMDetection needs: there are no wheels of them."""

import importlib.machinery
import importlib.util
import pickle
import sys
import types
from typing import Any

import torch
from torch.utils.data import Dataset


class Operators(types.ModuleType):
    """Stands for ``mmcv._ext``. MMDetection asks it for every operator when it is imported."""

    def nms(self, boxes: torch.Tensor, scores: torch.Tensor, *, iou_threshold: float, offset: int) -> torch.Tensor:
        from torchvision.ops import nms  # noqa: PLC0415 - few tests need it

        assert offset == 0
        kept: torch.Tensor = nms(boxes, scores, iou_threshold)
        return kept

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_args: Any, **_kwargs: Any) -> None:
            raise AssertionError(f"the operator {name} is not compiled")

        return missing


def install() -> None:
    """Take the place of the operators, if they are not compiled."""
    if importlib.util.find_spec("mmcv") is not None and importlib.util.find_spec("mmcv._ext") is None:
        module = Operators("mmcv._ext")
        module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
        sys.modules["mmcv._ext"] = module


class WithOperators(Dataset[Any]):
    """A dataset that a process without the operators can be started with."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: list[int]) -> Any:
        return self.dataset.__getitems__(indices)

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return _unpickled, (pickle.dumps(self.dataset),)


def _unpickled(content: bytes) -> WithOperators:
    install()
    return WithOperators(pickle.loads(content))
