"""Distributed checkpoints: ``torch.distributed.checkpoint`` straight to OSS.

::

    import torch.distributed.checkpoint as dcp

    from osstorchconnector import OssFileSystem

    file_system = OssFileSystem(
        endpoint="oss-cn-hangzhou-internal.aliyuncs.com", cred_path="/root/.alibabacloud/credentials"
    )
    dcp.save(state_dict, storage_writer=file_system.writer("oss://bucket/checkpoints/step-1000"))
    dcp.load(state_dict, storage_reader=file_system.reader("oss://bucket/checkpoints/step-1000"))
"""

from osstorchconnector._lazy import needs_torch

with needs_torch(__name__, __name__):
    from osstorchconnector.dcp.file_system import OssFileSystem
    from osstorchconnector.dcp.hugging_face import OssHuggingFaceStorageReader
    from osstorchconnector.dcp.prefix import HexadecimalPrefix, PrefixStrategy, RoundRobinPrefix
    from osstorchconnector.dcp.reader import OssStorageReader, ReadReport
    from osstorchconnector.dcp.writer import OssStorageWriter

__all__ = [
    "HexadecimalPrefix",
    "OssFileSystem",
    "OssHuggingFaceStorageReader",
    "OssStorageReader",
    "OssStorageWriter",
    "PrefixStrategy",
    "ReadReport",
    "RoundRobinPrefix",
]
