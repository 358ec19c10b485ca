"""Checkpoints of Accelerate in OSS.

::

    from accelerate import Accelerator
    from osstorchconnector.accelerate import OssAcceleratorState

    accelerator = Accelerator()
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    checkpoints = OssAcceleratorState(
        accelerator,
        "oss://bucket/run-1",
        "oss-cn-hangzhou-internal.aliyuncs.com",
        cred_path="/root/.alibabacloud/credentials",
        keep=2,
    )
    step = checkpoints.load_state() or 0
    ...
    checkpoints.save_state(step)

It needs Accelerate: ``pip install "accelerate>=1.6"``.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector._lazy import needs_torch
from osstorchconnector._tested_versions import warn_if_untested
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError

with needs_torch(__name__, __name__):
    from osstorchconnector.checkpoint.folders import CheckpointFolders, check_keep, private_folder, remove_empty
    from osstorchconnector.model.dispatch import load_checkpoint_and_dispatch

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["load_checkpoint_and_dispatch", "OssAcceleratorState"]

# The oldest and the newest release that the tests were run with.
_TESTED: Final = ((1, 6), (1, 15))


@guards_methods
class OssAcceleratorState:
    """Saves the state of an ``Accelerator`` in OSS, and loads the newest one. All processes call its methods together.

    ``Accelerator.save_state`` writes a folder on a local disk. This class lets it write a temporary one, which is
    uploaded to ``oss://bucket/run-1/step-100`` and deleted. Each machine uploads the files that its processes wrote.
    The checkpoint counts when all are stored, and a failure is an error in all processes.

    From now on, the accelerator refuses ``save_state("oss://...")`` and ``load_state("oss://...")``, which would use a
    local folder ``oss:``.
    """

    def __init__(
        self,
        accelerator: "Accelerator",
        uri: str,
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
        keep: int | None = None,
    ) -> None:
        """Name the place of the checkpoints. The network is not used.

        Args:
            accelerator: The accelerator.
            uri: The directory of one training, ``oss://bucket/run-1``.
            endpoint: As for :class:`OssClient`, and so are the next arguments.
            cred_path: See there.
            config_path: See there.
            cred_provider: See there.
            region: See there.
            config: See there.
            keep: Delete older checkpoints, except this many whole ones and those that this process loaded.
                Default: delete none.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        self._keep = check_keep(keep)
        warn_if_untested("accelerate", *_TESTED)
        client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
        self._folders = CheckpointFolders(client, uri, re.compile(r"^step-\d+$"))
        self._accelerator = accelerator
        accelerator.register_save_state_pre_hook(lambda _models, _weights, folder: _refuse_uri(folder))
        accelerator.register_load_state_pre_hook(lambda _models, folder: _refuse_uri(folder))

    def save_state(self, step: int, **options: Any) -> str:  # noqa: ANN401 - Accelerate's
        """Store the state, then delete old checkpoints, and return the URI.

        Args:
            step: Its number. Of several checkpoints, the one with the highest number is the newest.
            options: For ``Accelerator.save_state``.

        Raises:
            OssConfigError: The number is negative or not whole, or the disk is full.
            OssError: The state was not stored; the previous checkpoint stays.
        """
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise OssConfigError(f"step must be a whole number of at least 0, got {step!r}")
        name = f"step-{step}"
        with private_folder() as folder:
            # It has a name of its own if the accelerator names checkpoints.
            written = self._accelerator.save_state(str(folder / name), **options)
            uri = self._folders.save(Path(str(written)), name)
        if self._keep is not None:
            self._folders.keep(self._keep)
        return uri

    def load_state(self, step: int | None = None, **options: Any) -> int | None:  # noqa: ANN401 - Accelerate's
        """Load a checkpoint into the objects that the accelerator prepared, and return its number, or None.

        Args:
            step: Its number. Default: the newest whole checkpoint; if there is none, nothing is loaded.
            options: For ``Accelerator.load_state``.

        Raises:
            OssNotFoundError: There is no checkpoint with that number.
            OssIntegrityError: A file has other bytes than were saved.
            OssError: It could not be downloaded.
        """
        name = self._folders.newest() if step is None else f"step-{step}"
        if name is None:
            return None
        with private_folder() as folder:
            self._folders.fetch(name, folder / name)
            self._accelerator.load_state(str(folder / name), **options)
            # The files must stay until the last rank of this machine has read them.
            self._accelerator.wait_for_everyone()
        return int(name.rpartition("-")[2])

    def latest(self) -> str | None:
        """Return the URI of the newest whole checkpoint, or None.

        Raises:
            OssError: The directory could not be listed, or an object could not be read.
        """
        name = self._folders.newest()
        return None if name is None else self._folders.uri(name)


def _refuse_uri(folder: object) -> None:
    if str(folder).startswith("oss:/"):
        remove_empty(Path(str(folder)))
        raise OssConfigError(
            f"{str(folder)!r} is a local folder for Accelerate, not OSS: call save_state and load_state of "
            "OssAcceleratorState"
        )
