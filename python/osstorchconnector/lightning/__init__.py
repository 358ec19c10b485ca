"""Checkpoints of Lightning in OSS.

::

    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from osstorchconnector.lightning import OssCheckpointIO

    checkpoints = OssCheckpointIO("oss-cn-hangzhou-internal.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
    trainer = Trainer(plugins=[checkpoints], callbacks=[ModelCheckpoint(dirpath="oss://bucket/run-1")])
    trainer.fit(model, ckpt_path=checkpoints.latest("oss://bucket/run-1"))

It needs Lightning: ``pip install "lightning>=2.4"``, as ``lightning`` or as ``pytorch_lightning``.
"""

from typing import TYPE_CHECKING

from osstorchconnector._lazy import lazy_names, needs_torch

with needs_torch(__name__, __name__):
    from osstorchconnector.lightning.checkpoint_io import OssCheckpointIO

if TYPE_CHECKING:
    from osstorchconnector.lightning.sharded import OssFabricShardedCheckpoints, OssShardedCheckpoints

__all__ = ["OssCheckpointIO", "OssFabricShardedCheckpoints", "OssShardedCheckpoints"]

_SHARDED = "osstorchconnector.lightning.sharded"

if not TYPE_CHECKING:
    # A type checker would accept every name because of it. Distributed checkpoints need a newer torch than the plugin.
    __getattr__, __dir__ = lazy_names(
        __name__, __all__, {"OssFabricShardedCheckpoints": _SHARDED, "OssShardedCheckpoints": _SHARDED}
    )
