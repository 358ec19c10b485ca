"""``.metadata``: torch's description of a checkpoint, which a save writes last."""

import uuid
from collections.abc import Iterable
from typing import Final

from torch.distributed.checkpoint.metadata import Metadata

from osstorchconnector._torch.distributed import StorageInfo
from osstorchconnector.connection.client import OssClient, get_bounded
from osstorchconnector.dcp.integrity import LARGEST_DESCRIPTION, Sidecar
from osstorchconnector.dcp.metadata_check import check_metadata
from osstorchconnector.dcp.unpickling import MetadataUnpickler, RefusedNameError
from osstorchconnector.exceptions import OssIntegrityError

# Tells this package's identifiers from those of torch, whose saves have no checksums.
_SAVE_ID_START: Final = "oss-"


def metadata_name(rank: int | None) -> str:
    """Return the object's name below a checkpoint; give `rank` if each rank saves by itself."""
    return ".metadata" if rank is None else f"__{rank}.metadata"


def read_metadata(client: OssClient, uri: str) -> Metadata:
    """Read the metadata of a checkpoint. It runs no code that the object names.

    Raises:
        OssNotFoundError: The object does not exist.
        OssIntegrityError: The object holds something else.
    """
    return metadata_in(get_bounded(client, uri, LARGEST_DESCRIPTION), uri)


def metadata_in(content: bytes, place: str) -> Metadata:
    """Return the metadata in the content of an object or a file. It runs no code that the content names.

    Raises:
        OssIntegrityError: It is something else.
    """
    try:
        metadata = MetadataUnpickler(content).load()
    except RefusedNameError as error:
        raise OssIntegrityError(
            f"{place} names {error.name}, which torch does not write into the metadata of a checkpoint, so it is not "
            "loaded: if this class is yours and you trust the checkpoint, allow it with "
            "torch.serialization.add_safe_globals"
        ) from None
    except Exception as error:
        raise OssIntegrityError(f"{place} is not the metadata of a checkpoint: {error!r}") from error
    if not isinstance(metadata, Metadata):
        raise OssIntegrityError(f"{place} is not the metadata of a checkpoint, but a {type(metadata).__name__}")
    check_metadata(metadata, place)
    return metadata


def items_of(metadata: Metadata) -> Iterable[StorageInfo]:
    """Return torch's description of where each item is."""
    return (metadata.storage_data or {}).values()


def span_of(info: StorageInfo) -> tuple[int, int]:
    """Return offset and length of an item. Both are 0 for an item of Hugging Face: its file's header has them."""
    return getattr(info, "offset", 0), getattr(info, "length", 0)


def new_save_id() -> str:
    """Make the identifier of a new save. It is part of the names of the save's files."""
    return f"{_SAVE_ID_START}{uuid.uuid4().hex}"


def save_id_of(metadata: Metadata) -> str | None:
    """Return the identifier of the save if this package made it; such a save has checksums."""
    save_id = getattr(metadata.storage_meta, "save_id", None)
    return save_id if isinstance(save_id, str) and save_id.startswith(_SAVE_ID_START) else None


def files_of(metadata: Metadata) -> set[str]:
    """Return the names of a checkpoint's files below it, without ``.metadata``."""
    files = {info.relative_path for info in items_of(metadata)}
    save_id = save_id_of(metadata)
    return files | {Sidecar.name(save_id)} if save_id is not None else files
