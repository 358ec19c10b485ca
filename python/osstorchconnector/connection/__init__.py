"""The client, its configuration, and how objects are addressed."""

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig

__all__ = ["OssClient", "OssConfig"]
