"""The original's place of the classes for distributed checkpoints."""

from osstorchconnector.dcp import OssFileSystem as OssDCPFileSystem
from osstorchconnector.dcp import OssStorageReader, OssStorageWriter

__all__ = ["OssDCPFileSystem", "OssStorageReader", "OssStorageWriter"]
