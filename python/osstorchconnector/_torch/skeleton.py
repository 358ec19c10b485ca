"""Files of ``torch.save`` without the bytes of their tensors.

| name of torch | versions |
| --- | --- |
| ``torch._subclasses.FakeTensorMode`` | all since 2.6 |
| ``torch.serialization.skip_data(materialize_fake_tensors=)``, which is public | all since 2.6 |
"""

from collections.abc import Callable
from typing import IO, Any, Final

import torch
from torch._subclasses import FakeTensorMode

_FakeTensorMode: Final[Any] = FakeTensorMode


def fake_tensors(make: Callable[[], Any]) -> Any:  # noqa: ANN401 - what `make` returns
    """Return what a function makes, in which new tensors have shape and type but no memory."""
    with _FakeTensorMode():
        return make()


def save_skeleton(content: object, path: "str | IO[bytes]") -> None:
    """Write what ``torch.save`` writes, with holes in place of the bytes of such tensors."""
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        torch.save(content, path)
