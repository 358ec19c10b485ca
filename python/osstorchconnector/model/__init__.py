"""Models of safetensors objects, from a bucket straight to their final memory.

::

    from osstorchconnector.model import open_model

    with open_model(
        "oss://bucket/llama/",
        "oss-cn-hangzhou-internal.aliyuncs.com",
        cred_path="/root/.alibabacloud/credentials",
    ) as model:
        for name, tensor in model:
            print(name, tensor.shape)
"""

from typing import TYPE_CHECKING

from osstorchconnector._lazy import lazy_names

if TYPE_CHECKING:
    from osstorchconnector.model.model import OssModel, open_model
    from osstorchconnector.model.tensors import TensorInfo

__all__ = ["open_model", "OssModel", "TensorInfo"]

if not TYPE_CHECKING:
    # A type checker would accept every name because of it.
    __getattr__, __dir__ = lazy_names(
        __name__,
        __all__,
        {
            "open_model": "osstorchconnector.model.model",
            "OssModel": "osstorchconnector.model.model",
            "TensorInfo": "osstorchconnector.model.tensors",
        },
    )
