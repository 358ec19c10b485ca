"""``.metadata``: torch's description of a checkpoint, the last object of a save."""

import pickle
import uuid
from collections.abc import Iterable
from typing import Final

from torch.distributed.checkpoint.metadata import Metadata

from osstorchconnector._torch.distributed import StorageInfo
from osstorchconnector.connection.client import OssClient
from osstorchconnector.dcp.integrity import Sidecar
from osstorchconnector.exceptions import OssIntegrityError

# torch draws identifiers too, and writes no checksums.
_SAVE_ID_START: Final = "oss-"


def metadata_name(rank: int | None) -> str:
    """Return the object's name below a checkpoint; `rank` where each rank has saved by itself."""
    return ".metadata" if rank is None else f"__{rank}.metadata"


def read_metadata(client: OssClient, uri: str) -> Metadata:
    """Return what an object says about a checkpoint.

    Raises:
        OssNotFoundError: There is no such object.
        OssIntegrityError: It holds something else.
    """
    content = client.get(uri)
    try:
        # As in torch: a checkpoint is as trusted as a program.
        metadata = pickle.loads(content)  # noqa: S301
    except Exception as error:
        raise OssIntegrityError(f"{uri} is no metadata of a checkpoint: {error!r}") from error
    if not isinstance(metadata, Metadata):
        raise OssIntegrityError(f"{uri} is no metadata of a checkpoint, but a {type(metadata).__name__}")
    return metadata


def items_of(metadata: Metadata) -> Iterable[StorageInfo]:
    """Return where each item is."""
    return (metadata.storage_data or {}).values()


def new_save_id() -> str:
    """Draw the identifier of a save. It is part of the names of the save's files."""
    return f"{_SAVE_ID_START}{uuid.uuid4().hex}"


def save_id_of(metadata: Metadata) -> str | None:
    """Return the identifier of the save if this package made it, which then has written checksums too."""
    save_id = getattr(metadata.storage_meta, "save_id", None)
    return save_id if isinstance(save_id, str) and save_id.startswith(_SAVE_ID_START) else None


def files_of(metadata: Metadata) -> set[str]:
    """Return the names of a checkpoint's files below it, without ``.metadata``."""
    files = {info.relative_path for info in items_of(metadata)}
    save_id = save_id_of(metadata)
    return files | {Sidecar.name(save_id)} if save_id is not None else files
