"""Copies of a dataset inside a process, which some wrappers make for each iteration."""

import copy
from typing import Any, Final, TypeVar

Dataset = TypeVar("Dataset")

# What the processes of a dataset share: where they meet, its epochs, its loaded state, its failures, where its time
# goes, and its listing.
_SHARED: Final = ("_directory", "_shared", "_epochs", "_loaded", "_counts", "_reading", "_listing", "_source")


def deep_copy(dataset: Dataset, memo: dict[int, Any]) -> Dataset:
    """Return a deep copy that shares with the dataset what its processes share.

    So an iteration of the copy counts as one of the dataset: it has the next epoch, and only one of them resumes from a
    loaded state.
    """
    memo |= {id(vars(dataset)[name]): vars(dataset)[name] for name in _SHARED if name in vars(dataset)}
    reduced: Any = dataset.__reduce_ex__(4)
    make, arguments, state = reduced[:3]
    copied: Dataset = make(*arguments)
    memo[id(dataset)] = copied
    state = copy.deepcopy(state, memo)
    if hasattr(copied, "__setstate__"):
        copied.__setstate__(state)
    else:
        vars(copied).update(state)
    return copied
