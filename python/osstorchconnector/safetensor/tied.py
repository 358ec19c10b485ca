"""Tensors that share memory, such as tied weights: which is stored, as ``safetensors.torch`` decides it."""

from collections import defaultdict
from collections.abc import Collection, Mapping

import torch

from osstorchconnector.exceptions import OssConfigError


def names_to_drop(tensors: Mapping[str, torch.Tensor], preferred: Collection[str] = ()) -> dict[str, list[str]]:
    """Return each name that stands for others too, and these others, sorted.

    A name can stand for the others if its tensor is all of the memory that they share. The first one by name is
    taken, but one of `preferred` before others.

    Args:
        tensors: The tensors of a model.
        preferred: Names that a file has.

    Raises:
        OssConfigError: None of the tensors that share memory is all of it.
    """
    dropped = defaultdict(list)
    for names in _shared(tensors):
        whole = {name for name in names if _is_whole(tensors[name])}
        if not whole:
            raise OssConfigError(
                "Error while trying to find names to remove to save state dict, but found no suitable name to keep for "
                f"saving amongst: {names}. None is covering the entire storage. Refusing to save/load the model since "
                "you could be storing much more memory than needed: clone() the tensors before"
            )
        kept = min(whole & set(preferred) or whole)
        for name in sorted(names - {kept}):
            dropped[kept].append(name)
    return dict(dropped)


def _shared(tensors: Mapping[str, torch.Tensor]) -> list[set[str]]:
    """Return groups of names whose tensors overlap; a tensor that overlaps with none is a group of its own."""
    storages = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.device.type == "meta" or tensor.layout != torch.strided:
            continue
        storage = tensor.untyped_storage()
        if storage.data_ptr() and storage.nbytes():
            storages[tensor.device, storage.data_ptr(), storage.nbytes()].append((*_area(tensor), name))
    groups: list[set[str]] = []
    for areas in storages.values():
        last = -1
        for start, end, name in sorted(areas):
            if start < last:
                groups[-1].add(name)
            else:
                groups.append({name})
            last = max(last, end)
    return groups


def _area(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor, and the one after its last."""
    start = tensor.data_ptr()
    if tensor.numel() == 0:
        return start, start
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


def _is_whole(tensor: torch.Tensor) -> bool:
    storage = tensor.untyped_storage()
    return tensor.data_ptr() == storage.data_ptr() and tensor.nbytes == storage.nbytes()
