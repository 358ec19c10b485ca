"""The state of a ``StatefulDataLoader``, with the states of its workers inside."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from osstorchconnector.dataset.reader_order import ReaderOrder
from osstorchconnector.dataset.rows import Rows
from osstorchconnector.dataset.state import ResumePoint
from osstorchconnector.exceptions import OssConfigError

_NO_STATE: Final = (
    "this is not the state of a StatefulDataLoader over an OssIterableDataset: give what loader.state_dict() returned"
)


def consumed_by_workers(states: Sequence[Mapping[str, Any]], steps: int, rows: Rows) -> tuple[ReaderOrder, int]:
    """Return the order of a rank, and how many of its positions all its workers together have consumed.

    Args:
        states: The state of each worker.
        steps: Batches that the loader delivered after it took the states.
        rows: The listing.

    Raises:
        OssConfigError: The states are not those of one loader, or one worker is ahead of the others.
    """
    points = sorted((ResumePoint.from_state(state) for state in states), key=lambda point: point.order.worker)
    order = points[0].order.of_rank()
    workers = [(point.order.worker, point.order.workers) for point in points]
    if len(workers) > 1 and all(count == 1 for _, count in workers):
        raise OssConfigError(
            "each worker read everything, so their states do not say together what was consumed: resume with the same "
            "ranks and workers from the loader's state, with loader.load_state_dict(state)"
        )
    if any(point.consumed is None or point.order.of_rank() != order for point in points) or workers != [
        (worker, len(states)) for worker in range(len(states))
    ]:
        raise OssConfigError("the states are not those of all workers of one loader")
    if steps and order.batch_size == 1 and len(states) > 1:
        raise OssConfigError(
            f"the loader delivered {steps} batches since it took its workers' states: give batch_size to the "
            "dataset, or snapshot_every_n_steps=1 to the loader"
        )
    consumed = [point.consumed or 0 for point in points]
    blocks = [-(-count // order.batch_size) for count in consumed]
    if any(found != -(-(sum(blocks) - worker) // len(blocks)) for worker, found in enumerate(blocks)) or any(
        point.consumed and point.consumed % order.batch_size and not point.finished for point in points
    ):
        raise OssConfigError(
            "one worker is ahead of the others, which no cursor can describe: give the dataset the loader's batch size "
            "with batch_size=..."
        )
    total = sum(consumed) + steps * order.batch_size
    return order, min(total, order.length(rows.count)) if rows.complete else total


def worker_states(loader_state: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], int]:
    """Return the states of the dataset in the workers, and how many batches the loader delivered since it took them.

    Args:
        loader_state: What ``StatefulDataLoader.state_dict()`` returned, with workers or without.

    Raises:
        OssConfigError: It is not the state of such a loader.
    """
    # torchdata has no public way to the states of the workers. These keys are private: 0.11.0, the oldest supported
    # version, writes them, and `tests/dataset/test_resume.py` fails if a newer version does not.
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
