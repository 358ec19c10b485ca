"""Check that a plan loads every element that a rank asks for."""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner

from osstorchconnector._torch.distributed import create_chunk_list
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_plan(plan: LoadPlan, planner: LoadPlanner, metadata: Metadata, uri: str) -> None:
    """Check that a plan fills each tensor completely.

    The metadata of a rank that saved by itself describes only this rank's shards. If another world size or another
    sharding needs more, torch plans to load only those shards, and would leave the other elements unchanged.

    Raises:
        OssConfigError: A tensor would be filled in part only.
    """
    state: Mapping[str, Any] = getattr(planner, "state_dict", None) or {}
    planned: Counter[str] = Counter()
    for item in plan.items:
        planned[item.dest_index.fqn] += math.prod(item.lengths)
    for name, entry in metadata.state_dict_metadata.items():
        if name not in state or not isinstance(entry, TensorStorageMetadata):
            continue
        if sum(math.prod(chunk.sizes) for chunk in entry.chunks) >= math.prod(entry.size):
            continue
        needed = sum(math.prod(chunk.sizes) for chunk in create_chunk_list(state[name]))
        if planned[name] < needed:
            raise OssConfigError(
                f"the checkpoint at {uri} holds {planned[name]} of the {needed} elements of {name!r} that this rank "
                "loads: each rank saved by itself (use_collectives=False), so load it with the same number of ranks "
                "and the same sharding"
            )
