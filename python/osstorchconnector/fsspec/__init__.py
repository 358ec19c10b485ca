"""``oss://`` for libraries that open files with ``fsspec``, such as pandas, pyarrow and datasets.

Installing this package is enough: ``fsspec`` finds it by its entry point::

    import pandas as pd

    pd.read_parquet("oss://bucket/table.parquet", storage_options={"endpoint": "oss-cn-hangzhou.aliyuncs.com"})

Without storage options, the environment decides: ``OSS_ENDPOINT``, ``OSS_REGION``, and the places of
:class:`~osstorchconnector.credentials.DefaultCredentials`.
"""

from osstorchconnector.fsspec.file_system import FsspecFileSystem
from osstorchconnector.fsspec.instances import use_client
from osstorchconnector.fsspec.webdataset import register_webdataset

__all__ = ["FsspecFileSystem", "register_webdataset", "use_client"]
