"""PyTorch training jobs read datasets from, and write checkpoints to, Alibaba Cloud OSS.

::

    from osstorchconnector import OssIterableDataset

    dataset = OssIterableDataset.from_prefix(
        "oss://bucket/train/",
        endpoint="oss-cn-hangzhou-internal.aliyuncs.com",
        cred_path="/root/.alibabacloud/credentials",
    )
    for item in dataset:
        content = item.read()

Names that need torch, or another slow import, are loaded at their first use, so the command line tool and the emulator
start without torch.
"""

import io
from typing import TYPE_CHECKING, Final

from osstorchconnector._lazy import lazy_names as _lazy_names
from osstorchconnector._native import DataObject, ObjectListing, OssReader, Writer, __version__, new_data_object
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.seekable_writer import SeekableWriter
from osstorchconnector.connection.stat import ObjectStat
from osstorchconnector.connection.write_options import WriteOptions
from osstorchconnector.dataset.manifest import imagenet_manifest_parser, line_manifest_parser
from osstorchconnector.exceptions import (
    OssArchivedError,
    OssConfigError,
    OssConnectionError,
    OssCredentialsError,
    OssError,
    OssErrorLimitError,
    OssFormatError,
    OssIntegrityError,
    OssKeyError,
    OssListingChangedError,
    OssNotFoundError,
    OssPermissionError,
    OssThrottledError,
    OssTimeoutError,
)

if TYPE_CHECKING:
    from osstorchconnector.archive.writer import generate_tar_archive
    from osstorchconnector.checkpoint import OssCheckpoint
    from osstorchconnector.dataset.iterable import OssIterableDataset
    from osstorchconnector.dataset.map import OssMapDataset
    from osstorchconnector.dcp.file_system import OssFileSystem
    from osstorchconnector.dcp.file_system import OssFileSystem as OssDCPFileSystem
    from osstorchconnector.dcp.hugging_face import OssHuggingFaceStorageReader
    from osstorchconnector.dcp.reader import OssStorageReader
    from osstorchconnector.dcp.writer import OssStorageWriter
    from osstorchconnector.safetensor import OssSafetensor

__all__ = [
    "__version__",
    "DataObject",
    "generate_tar_archive",
    "imagenet_manifest_parser",
    "line_manifest_parser",
    "new_data_object",
    "ObjectListing",
    "ObjectStat",
    "OssArchivedError",
    "OssCheckpoint",
    "OssClient",
    "OssConfig",
    "OssConfigError",
    "OssConnectionError",
    "OssCredentialsError",
    "OssDCPFileSystem",
    "OssError",
    "OssErrorLimitError",
    "OssFileSystem",
    "OssFormatError",
    "OssHuggingFaceStorageReader",
    "OssIntegrityError",
    "OssIterableDataset",
    "OssKeyError",
    "OssListingChangedError",
    "OssMapDataset",
    "OssNotFoundError",
    "OssPermissionError",
    "OssReader",
    "OssSafetensor",
    "OssStorageReader",
    "OssStorageWriter",
    "OssThrottledError",
    "OssTimeoutError",
    "SeekableWriter",
    "WriteOptions",
    "Writer",
]

_LATER: Final = {
    "generate_tar_archive": "osstorchconnector.archive.writer",
    "OssCheckpoint": "osstorchconnector.checkpoint",
    "OssDCPFileSystem": "osstorchconnector.dcp.file_system",
    "OssFileSystem": "osstorchconnector.dcp.file_system",
    "OssHuggingFaceStorageReader": "osstorchconnector.dcp.hugging_face",
    "OssIterableDataset": "osstorchconnector.dataset.iterable",
    "OssMapDataset": "osstorchconnector.dataset.map",
    "OssSafetensor": "osstorchconnector.safetensor",
    "OssStorageReader": "osstorchconnector.dcp.reader",
    "OssStorageWriter": "osstorchconnector.dcp.writer",
}

# Native classes cannot inherit from it, but torch, PIL and zipfile check for it with isinstance.
io.BufferedIOBase.register(DataObject)
io.BufferedIOBase.register(OssReader)
io.BufferedIOBase.register(Writer)

if not TYPE_CHECKING:
    # A type checker would accept every name because of it.
    __getattr__, __dir__ = _lazy_names(__name__, __all__, _LATER)
