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

Names are loaded at their first use, so the command line tool and the emulator start without torch, and fast.
"""

import io
from typing import TYPE_CHECKING, Final

from osstorchconnector._lazy import lazy_names as _lazy_names
from osstorchconnector._native import DataObject, ObjectListing, OssReader, Writer, __version__, new_data_object
from osstorchconnector.integrations import MODULES as _INTEGRATIONS

if TYPE_CHECKING:
    from osstorchconnector.archive.writer import generate_tar_archive
    from osstorchconnector.checkpoint import OssCheckpoint
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.connection.config import OssConfig
    from osstorchconnector.connection.seekable_writer import SeekableWriter
    from osstorchconnector.connection.stat import ObjectStat
    from osstorchconnector.connection.stats import ClientStats
    from osstorchconnector.connection.write_options import WriteOptions
    from osstorchconnector.dataset.iterable import OssIterableDataset
    from osstorchconnector.dataset.manifest import imagenet_manifest_parser, line_manifest_parser
    from osstorchconnector.dataset.map import OssMapDataset
    from osstorchconnector.dataset.stats import DatasetStats
    from osstorchconnector.dcp.file_system import OssFileSystem
    from osstorchconnector.dcp.file_system import OssFileSystem as OssDCPFileSystem
    from osstorchconnector.dcp.hugging_face import OssHuggingFaceStorageReader
    from osstorchconnector.dcp.reader import OssStorageReader
    from osstorchconnector.dcp.writer import OssStorageWriter
    from osstorchconnector.exceptions import (
        OssArchivedError,
        OssConfigError,
        OssConnectionError,
        OssCredentialsError,
        OssError,
        OssErrorLimitError,
        OssExistsError,
        OssFormatError,
        OssIntegrityError,
        OssKeyError,
        OssListingChangedError,
        OssNotFoundError,
        OssPermissionError,
        OssThrottledError,
        OssTimeoutError,
    )
    from osstorchconnector.integrations import OSSDetDataset as OSSDetDataset
    from osstorchconnector.integrations import OSSLoadImageFromFile as OSSLoadImageFromFile
    from osstorchconnector.integrations import OssStorageBackend as OssStorageBackend
    from osstorchconnector.integrations import OSSYOLODataset as OSSYOLODataset
    from osstorchconnector.integrations import get_oss_ann_path as get_oss_ann_path
    from osstorchconnector.integrations import make_oss_trainer as make_oss_trainer
    from osstorchconnector.model_files.connector import OssModelConnector
    from osstorchconnector.safetensor import OssSafetensor

__all__ = [
    "__version__",
    "ClientStats",
    "DataObject",
    "DatasetStats",
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
    "OssExistsError",
    "OssFileSystem",
    "OssFormatError",
    "OssHuggingFaceStorageReader",
    "OssIntegrityError",
    "OssIterableDataset",
    "OssKeyError",
    "OssListingChangedError",
    "OssMapDataset",
    "OssModelConnector",
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
    "ClientStats": "osstorchconnector.connection.stats",
    "DatasetStats": "osstorchconnector.dataset.stats",
    "generate_tar_archive": "osstorchconnector.archive.writer",
    "imagenet_manifest_parser": "osstorchconnector.dataset.manifest",
    "line_manifest_parser": "osstorchconnector.dataset.manifest",
    "ObjectStat": "osstorchconnector.connection.stat",
    "OssArchivedError": "osstorchconnector.exceptions",
    "OssCheckpoint": "osstorchconnector.checkpoint",
    "OssClient": "osstorchconnector.connection.client",
    "OssConfig": "osstorchconnector.connection.config",
    "OssConfigError": "osstorchconnector.exceptions",
    "OssConnectionError": "osstorchconnector.exceptions",
    "OssCredentialsError": "osstorchconnector.exceptions",
    "OssDCPFileSystem": "osstorchconnector.dcp.file_system",
    "OssError": "osstorchconnector.exceptions",
    "OssErrorLimitError": "osstorchconnector.exceptions",
    "OssExistsError": "osstorchconnector.exceptions",
    "OssFileSystem": "osstorchconnector.dcp.file_system",
    "OssFormatError": "osstorchconnector.exceptions",
    "OssHuggingFaceStorageReader": "osstorchconnector.dcp.hugging_face",
    "OssIntegrityError": "osstorchconnector.exceptions",
    "OssIterableDataset": "osstorchconnector.dataset.iterable",
    "OssKeyError": "osstorchconnector.exceptions",
    "OssListingChangedError": "osstorchconnector.exceptions",
    "OssMapDataset": "osstorchconnector.dataset.map",
    "OssModelConnector": "osstorchconnector.model_files.connector",
    "OssNotFoundError": "osstorchconnector.exceptions",
    "OssPermissionError": "osstorchconnector.exceptions",
    "OssSafetensor": "osstorchconnector.safetensor",
    "OssStorageReader": "osstorchconnector.dcp.reader",
    "OssStorageWriter": "osstorchconnector.dcp.writer",
    "OssThrottledError": "osstorchconnector.exceptions",
    "OssTimeoutError": "osstorchconnector.exceptions",
    "SeekableWriter": "osstorchconnector.connection.seekable_writer",
    "WriteOptions": "osstorchconnector.connection.write_options",
}

# Native classes cannot inherit from it, but torch, PIL and zipfile check for it with isinstance.
io.BufferedIOBase.register(DataObject)
io.BufferedIOBase.register(OssReader)
io.BufferedIOBase.register(Writer)

if not TYPE_CHECKING:
    # A type checker would accept every name because of it.
    # Names of integrations are not in `__all__`: a star import would need every library that they are for.
    __getattr__, __dir__ = _lazy_names(__name__, __all__, {**_LATER, **_INTEGRATIONS})
