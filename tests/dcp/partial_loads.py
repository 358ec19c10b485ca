"""Loading a part of a tensor, as a rank does if the number of ranks has changed."""

import torch
from torch.distributed.checkpoint import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, ReadItem

from osstorchconnector import OssFileSystem
from osstorchconnector.dcp import ReadReport


def load_rows(
    file_system: OssFileSystem, checkpoint_uri: str, metadata: Metadata, name: str, start: int, end: int
) -> tuple[torch.Tensor, ReadReport]:
    """Load rows of a saved matrix."""
    return load_box(
        file_system, checkpoint_uri, metadata, name, (start, 0), (end - start, metadata_columns(metadata, name))
    )


def metadata_columns(metadata: Metadata, name: str) -> int:
    return int(metadata.state_dict_metadata[name].size[1])  # type: ignore[union-attr]


def load_box(
    file_system: OssFileSystem,
    checkpoint_uri: str,
    metadata: Metadata,
    name: str,
    offsets: tuple[int, ...],
    lengths: tuple[int, ...],
) -> tuple[torch.Tensor, ReadReport]:
    """Load a part of a saved tensor."""
    target = torch.zeros(lengths)
    planner = DefaultLoadPlanner()
    planner.set_up_planner({name: target}, metadata, is_coordinator=True)
    zero = torch.Size([0] * len(lengths))
    index = MetadataIndex(name, zero)
    item = ReadItem(
        type=LoadItemType.TENSOR,
        dest_index=index,
        dest_offsets=zero,
        storage_index=index,
        storage_offsets=torch.Size(offsets),
        lengths=torch.Size(lengths),
    )
    reader = file_system.reader(checkpoint_uri)
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    reader.read_data(LoadPlan([item]), planner).wait()
    assert reader.report is not None
    return target, reader.report
