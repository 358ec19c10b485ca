"""How many ranks there are."""

import torch.distributed as dist


def world_size(group: dist.ProcessGroup | None = None) -> int:
    """Return the number of ranks of a group, the default one if none is given; 1 without any."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1
