"""The number of ranks."""

import torch.distributed as dist


def world_size(group: dist.ProcessGroup | None = None) -> int:
    """Return the number of ranks of a group, by default of the default group; 1 if there is no group."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1
