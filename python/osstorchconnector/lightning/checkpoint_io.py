"""The plugin of Lightning's ``Trainer`` and ``Fabric``."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fsspec.registry import register_implementation, registry

from osstorchconnector.checkpoint import OssCheckpoint, history
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.uri import split_object
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError, OssPermissionError
from osstorchconnector.fsspec import FsspecFileSystem, use_client
from osstorchconnector.lightning.interfaces import default_weights_only, interfaces
from osstorchconnector.lightning.retention import Retention

if TYPE_CHECKING:
    from lightning.fabric.plugins import CheckpointIO

_logger = logging.getLogger(__name__)

_interfaces: Final = interfaces()
if not TYPE_CHECKING:
    CheckpointIO, *_others = _interfaces


class NotGiven:
    """The type of :data:`NOT_GIVEN`."""


#: The default of an argument whose other values all have a meaning.
NOT_GIVEN: Final = NotGiven()
#: The object of a distributed checkpoint that Lightning keeps everything in that is not sharded.
REST: Final = "meta.pt"


@guards_methods
class OssCheckpointIO(CheckpointIO):
    """Saves, loads and removes the checkpoints of a ``Trainer`` in OSS. Use it as ``Trainer(plugins=[...])``.

    A checkpoint appears whole or not at all, and until then the previous one stays. This object may be wrapped in
    ``AsyncCheckpointIO``.

    A checkpoint that this process loaded is never removed, nor one outside of the directories that this object saved
    to: a training that resumes from another run's checkpoint leaves that run alone. While a save runs in the
    background, the previous checkpoint stays until the new one is stored.

    ``ModelCheckpoint(dirpath="oss://...")`` asks ``fsspec`` which files exist. In this process, ``oss://`` without
    storage options uses this object's client from now on, unless another implementation of ``oss://`` is registered.
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
        weights_only: bool | None = None,
    ) -> None:
        """Resolve the connection arguments, which are those of :class:`OssClient`. The network is not used.

        The argument that :class:`OssClient` does not have is `weights_only`: how to load if the caller does not say it.
        True loads only tensors, plain values and classes that were allowed explicitly; False runs any code that a
        checkpoint holds. Default: as Lightning's own plugin loads, which is False before Lightning 2.6, and torch's
        default since.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        super().__init__()
        self._checkpoint = OssCheckpoint(endpoint, cred_path, config_path, cred_provider, region, config=config)
        self._client = self._checkpoint._client  # noqa: SLF001 - one client for both
        self._weights_only = weights_only
        self._retention = Retention()
        if registry.get("oss") in {None, FsspecFileSystem}:
            register_implementation("oss", FsspecFileSystem, clobber=True)
            use_client(self._client)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401 - the interface's type
        """Store a checkpoint.

        Args:
            checkpoint: The checkpoint.
            path: The object to write, ``oss://bucket/key``.
            storage_options: Must be None.

        Raises:
            OssError: The checkpoint was not stored; the previous object is unchanged.
        """
        if storage_options is not None:
            raise OssConfigError("OssCheckpointIO has no storage_options: give them to its constructor, as config")
        uri = _checked(path)
        self._checkpoint.save(checkpoint, uri)
        self._stored(uri)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = "cpu",  # noqa: ANN401 - the interface's type
        weights_only: bool | NotGiven | None = NOT_GIVEN,  # noqa: FBT001 - the interface's position
    ) -> dict[str, Any]:
        """Return a checkpoint.

        Args:
            path: The object, ``oss://bucket/key``.
            map_location: The device that tensors go to, as in ``torch.load``. Default: main memory, as in Lightning's
                own plugin, because otherwise every rank would fill the first GPU.
            weights_only: Load only tensors and plain values. None is torch's default. If it is not given, this object's
                argument decides.

        Raises:
            OssNotFoundError: The object does not exist.
            OssError: The object could not be read.
        """
        uri = _checked(path)
        loaded: dict[str, Any] = self._checkpoint.load(uri, map_location, self._chosen_weights_only(weights_only))
        self._retention.loaded(uri)
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint, unless it must be kept. A missing one is no error.

        It is kept, and the log says so, if this process loaded it, or if this object saves to other directories. To
        delete it nevertheless, use :meth:`OssClient.delete`.

        Args:
            path: The object or the distributed checkpoint, ``oss://bucket/key``.

        Raises:
            OssError: The checkpoint could not be deleted.
        """
        uri = _checked(path)
        reason = self._retention.reason_to_keep(uri)
        if reason is not None:
            _logger.info("%s is not removed: %s", uri, reason)
        elif self._retention.must_wait(uri):
            _logger.debug("%s is removed once the next checkpoint is stored", uri)
        else:
            self._delete(uri)

    def latest(self, dirpath: str) -> str | None:
        """Return the URI of the complete checkpoint that was stored last directly below a directory, or None.

        A distributed checkpoint counts too. Use the URI as ``ckpt_path``. Lightning's own ``ckpt_path="last"`` drops
        ``oss://`` from the path, finds no checkpoint, and starts the training from the beginning.

        Args:
            dirpath: The directory, as for ``ModelCheckpoint``.

        Raises:
            OssError: The directory could not be listed, or an object could not be read.
        """
        directory = f"{dirpath.rstrip('/')}/"
        _refuse_local_copy(directory)
        return history.stored_last(self._client, directory)

    def _stored(self, uri: str) -> None:
        """Note that a checkpoint was stored, and remove those that waited for it."""
        self._retention.stored(uri)
        for old in self._retention.due():
            if self._retention.reason_to_keep(old) is None:
                self._delete(old)

    def _chosen_weights_only(self, given: "bool | NotGiven | None") -> bool | None:
        if isinstance(given, bool):
            return given
        if self._weights_only is not None:
            return self._weights_only
        return default_weights_only(_interfaces) if isinstance(given, NotGiven) else None

    def _delete(self, uri: str) -> None:
        self._client.delete(uri)
        self._delete_distributed(uri)

    def _delete_distributed(self, uri: str) -> None:
        try:
            size = self._client.head(f"{uri}/{history.METADATA}").size
        except OssNotFoundError:
            return
        except OssPermissionError as error:
            # A key that may only write and delete: one object is gone, and of shards nothing can be found.
            _logger.info("whether %s has shards, which would stay, cannot be read: %s", uri, error)
            return
        history.delete(self._client, history.Candidate(uri, uri.rpartition("/")[2], size, distributed=True))
        self._client.delete(f"{uri}/{REST}")


def _checked(path: str | os.PathLike[str]) -> str:
    """Return the URI of an object. A path object cannot hold one.

    Raises:
        OssConfigError: `path` does not name an object.
    """
    split_object(path)  # type: ignore[arg-type]
    _refuse_local_copy(str(path))
    return str(path)


def _refuse_local_copy(uri: str) -> None:
    """Raise if there is a local folder that a strategy took for this URI.

    Strategies that save by themselves make a ``pathlib.Path`` of it, which is ``oss:/bucket/...`` here.
    """
    local = Path(uri)
    if uri.startswith("oss://") and local.exists():
        raise OssConfigError(
            f"a strategy saved to the local folder {local.absolute()} instead of {uri}: use a class of "
            "OssShardedCheckpoints and the strategy, as the guide on Lightning shows, and move or delete the folder"
        )


if not TYPE_CHECKING:
    for _other in _others:
        _other.register(OssCheckpointIO)
