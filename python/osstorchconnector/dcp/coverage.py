"""Whether a checkpoint holds all of what a rank is to load."""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner

from osstorchconnector._torch.distributed import create_chunk_list
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_coverage(plan: LoadPlan, planner: LoadPlanner, metadata: Metadata, uri: str) -> None:
    """Check that a plan fills what it is to fill.

    A rank that has saved by itself describes its own shards only. Where another world size or another sharding needs
    more than those, torch plans what there is, and would leave the rest as it was.

    Raises:
        OssConfigError: A tensor would be filled in part.
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
                f"the checkpoint at {uri} holds {planned[name]} of the {needed} elements of {name!r} that this rank is "
                "to load: its ranks have saved each by itself (use_collectives=False), and such a checkpoint is loaded "
                "by as many ranks with the same sharding"
            )
