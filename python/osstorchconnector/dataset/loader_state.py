"""Reading the state of torchdata's StatefulDataLoader."""

from collections.abc import Mapping
from typing import Any, Final

from osstorchconnector.exceptions import OssConfigError

_NO_STATE: Final = (
    "this is no state of a StatefulDataLoader over an OssIterableDataset: give what loader.state_dict() returned"
)


def worker_states(loader_state: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], int]:
    """Return the state of the dataset in each worker, and the batches that were delivered after these were taken.

    Args:
        loader_state: What ``StatefulDataLoader.state_dict()`` returned, with workers or without.

    Raises:
        OssConfigError: It is something else.
    """
    try:
        if "_snapshot" not in loader_state:
            return [_checked(loader_state["dataset_state"])], 0
        snapshots = loader_state["_snapshot"]["_worker_snapshots"]
        states = [_checked(snapshot["dataset_state"]) for snapshot in snapshots.values()]
        return states, int(loader_state["_steps_since_snapshot"])
    except (AttributeError, KeyError, TypeError) as error:
        raise OssConfigError(_NO_STATE) from error


def _checked(state: object) -> Mapping[str, Any]:
    if not isinstance(state, Mapping) or not state:
        raise OssConfigError(_NO_STATE)
    return state
