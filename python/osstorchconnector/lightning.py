"""Checkpoints of Lightning in OSS.

::

    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from osstorchconnector.lightning import OssCheckpointIO

    checkpoints = OssCheckpointIO("oss-cn-hangzhou-internal.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
    trainer = Trainer(plugins=[checkpoints], callbacks=[ModelCheckpoint(dirpath="oss://bucket/run-1")])
    trainer.fit(model, ckpt_path=checkpoints.latest("oss://bucket/run-1"))

It needs Lightning: ``pip install "osstorchconnector[lightning]"``, as ``lightning`` or as ``pytorch_lightning``.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osstorchconnector.checkpoint import OssCheckpoint, history
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.fsspec.file_system import register

if TYPE_CHECKING:
    from lightning.fabric.plugins import CheckpointIO

__all__ = ["OssCheckpointIO"]


def _interfaces() -> list[Any]:
    """Return the interface of each Lightning that is installed: the two packages do not know each other."""
    found = [
        importlib.import_module(f"{package}.plugins").CheckpointIO
        for package in ("lightning.fabric", "lightning_fabric")
        if importlib.util.find_spec(package.partition(".")[0]) is not None
    ]
    if not found:
        raise ModuleNotFoundError(
            'Lightning is not installed: pip install "osstorchconnector[lightning]"', name="lightning"
        )
    return found


if not TYPE_CHECKING:
    CheckpointIO, *_others = _interfaces()


class OssCheckpointIO(CheckpointIO):
    """Saves, loads and removes the checkpoints of a ``Trainer`` in OSS: give it in ``Trainer(plugins=[...])``.

    A checkpoint appears whole or not at all, and the one that it replaces stays until then. It may be wrapped in
    ``AsyncCheckpointIO``.

    ``ModelCheckpoint(dirpath="oss://...")`` asks ``fsspec`` what is there already. Where nothing in this process stands
    for ``oss://`` in ``fsspec`` yet, this connection does from now on.
    """

    def __init__(
        self,
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
    ) -> None:
        """Resolve the connection arguments, which are those of :class:`OssClient`. The network is not used.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        super().__init__()
        self._checkpoint = OssCheckpoint(endpoint, cred_path, config_path, cred_provider, region, config=config)
        self._client = self._checkpoint._client  # noqa: SLF001 - one connection for both
        register(self._client)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401 - the interface's type
        """Store a checkpoint.

        Args:
            checkpoint: What to store.
            path: Where to: ``oss://bucket/key``.
            storage_options: There are none.

        Raises:
            OssError: It was not stored; what was there before still is.
        """
        if storage_options is not None:
            raise OssConfigError("OssCheckpointIO has no storage_options: give them to its constructor, as config")
        # Here and below, what is a Path is refused by what it is given to.
        self._checkpoint.save(checkpoint, path)  # type: ignore[arg-type]

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = "cpu",  # noqa: ANN401 - the interface's type
        weights_only: bool | None = None,  # noqa: FBT001 - the interface's position
    ) -> dict[str, Any]:
        """Return a checkpoint.

        Args:
            path: Where it is: ``oss://bucket/key``.
            map_location: Where its tensors go, as of ``torch.load``. Default: main memory, as in Lightning's own, so
                that not every rank fills the first GPU.
            weights_only: Whether nothing but tensors and plain values is loaded. Default: what torch's is.

        Raises:
            OssNotFoundError: There is none.
            OssError: It could not be read.
        """
        loaded: dict[str, Any] = self._checkpoint.load(path, map_location, weights_only)  # type: ignore[arg-type]
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint. It is no error where there is none.

        Args:
            path: Where it is: ``oss://bucket/key``.

        Raises:
            OssError: It could not be deleted.
        """
        self._client.delete(path)  # type: ignore[arg-type]

    def latest(self, dirpath: str) -> str | None:
        """Return the URI of the complete checkpoint directly below a directory that was stored last, or None.

        Give it as ``ckpt_path``. Lightning's own ``ckpt_path="last"`` looks without ``oss://`` for what a
        ``ModelCheckpoint`` stored, finds nothing, and starts anew.

        Args:
            dirpath: The directory, as of ``ModelCheckpoint``.

        Raises:
            OssError: The directory could not be listed, or an object not be looked at.
        """
        return history.stored_last(self._client, f"{dirpath.rstrip('/')}/")


if not TYPE_CHECKING:
    for _other in _others:
        _other.register(OssCheckpointIO)
