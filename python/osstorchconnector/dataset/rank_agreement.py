"""Whether all ranks were given the same dataset."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from osstorchconnector.exceptions import OssConfigError


def check_agreement(describe: Callable[[], Mapping[str, str]], group: object) -> None:
    """Compare texts on all ranks of a group, which call this together. Without a process group there is one rank.

    Args:
        describe: Returns the texts of this rank by their names. One that a rank lacks is not compared with that rank.
        group: The group; None is the whole world.

    Raises:
        OssConfigError: They differ, or `describe` raised on a rank. Every rank raises it.
        Exception: What `describe` raised on this rank.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    failure: Exception | None = None
    texts: Mapping[str, str] | str
    try:
        texts = dict(describe())
    except Exception as error:  # noqa: BLE001 - raised again, after the other ranks know
        failure, texts = error, f"{type(error).__name__}: {error}"
    found: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(found, texts, group)
    if failure is not None:
        raise failure
    wrong = [f"rank {rank} raised {one}" for rank, one in enumerate(found) if isinstance(one, str)]
    if not wrong:
        wrong = _differences(found)
    if wrong:
        raise OssConfigError(
            f"the ranks do not have the same dataset, so objects would be lost or come twice: {'; '.join(wrong)}"
        )


def _differences(found: list[Mapping[str, str]]) -> list[str]:
    differences = []
    for name in dict.fromkeys(name for one in found for name in one):
        (first, value), *others = [(rank, one[name]) for rank, one in enumerate(found) if name in one]
        for rank, other in others:
            if other != value:
                differences.append(f"{name} is {value} on rank {first} and {other} on rank {rank}")
                break
    return differences
