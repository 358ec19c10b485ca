"""Checkpoints of the Transformers ``Trainer`` in OSS.

::

    from transformers import Trainer, TrainingArguments
    from osstorchconnector.transformers import OssTrainerCallback

    checkpoints = OssTrainerCallback(
        "oss://bucket/run-1",
        "oss-cn-hangzhou-internal.aliyuncs.com",
        cred_path="/root/.alibabacloud/credentials",
        keep=2,
    )
    arguments = TrainingArguments(output_dir="/local/run-1", save_steps=100)
    trainer = Trainer(model, arguments, train_dataset=data, callbacks=[checkpoints])
    trainer.train(resume_from_checkpoint=checkpoints.fetch(arguments.output_dir))

It needs Transformers: ``pip install "transformers>=4.51" "accelerate>=1.6"``.
"""

import json
import logging
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
    from osstorchconnector.checkpoint import ranks
    from osstorchconnector.checkpoint.folders import CheckpointFolders, check_keep, remove_empty
    from osstorchconnector.model.hugging_face import load_pretrained, load_tokenizer, save_pretrained

try:
    from transformers import TrainerCallback
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise ModuleNotFoundError(
        "Transformers is not installed: pip install 'transformers>=4.51' 'accelerate>=1.6'", name="transformers"
    ) from None

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["load_pretrained", "load_tokenizer", "OssTrainerCallback", "save_pretrained"]

_logger = logging.getLogger(__name__)

# The oldest and the newest release that the tests were run with.
_TESTED: Final = ((4, 51), (5, 24))
_STATE: Final = "trainer_state.json"


@guards_methods
class OssTrainerCallback(TrainerCallback):  # type: ignore[misc, unused-ignore] # without Transformers it has no type
    """Keeps the checkpoints of a ``Trainer`` in OSS, and fetches the newest one to resume from.

    ``Trainer`` saves to local folders ``output_dir/checkpoint-100``. After each save this callback uploads the folder
    to ``oss://bucket/run-1/checkpoint-100``, and the training continues when it is there, whole. A checkpoint whose
    upload failed or was interrupted does not count. With several ranks, each machine uploads the files that it has, and
    a failure is an error on all ranks.
    """

    def __init__(
        self,
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
            uri: The directory of one training, ``oss://bucket/run-1``.
            endpoint: As for :class:`OssClient`, and so are the next arguments.
            cred_path: See there.
            config_path: See there.
            cred_provider: See there.
            region: See there.
            config: See there.
            keep: Delete older checkpoints, except this many whole ones, the best one, and what this process resumed
                from. Default: delete none. ``TrainingArguments.save_total_limit`` decides about local folders.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        warn_if_untested("transformers", *_TESTED)
        client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
        self._folders = CheckpointFolders(client, uri, re.compile(rf"^{PREFIX_CHECKPOINT_DIR}-\d+$"))
        self._keep = check_keep(keep)

    def latest(self) -> str | None:
        """Return the URI of the newest whole checkpoint, or None. With several ranks, all call it.

        Raises:
            OssError: The directory could not be listed, or an object could not be read.
        """
        name = self._folders.newest()
        return None if name is None else self._folders.uri(name)

    def fetch(self, output_dir: str) -> str | None:
        """Download the newest whole checkpoint, and return its local folder for ``resume_from_checkpoint``, or None.

        The best checkpoint, which ``load_best_model_at_end`` needs, is downloaded too. A folder that holds the
        checkpoint already is used; one that holds something else is renamed. With several ranks, all call it, after
        ``TrainingArguments`` were made.

        Args:
            output_dir: That of the ``TrainingArguments``.

        Raises:
            OssConfigError: `output_dir` is not a local directory, or cannot be written to.
            OssIntegrityError: A file has other bytes than were saved.
            OssError: A file could not be downloaded.
        """
        _check_local(output_dir)
        name = self._folders.newest()
        if name is None:
            return None
        folder = Path(output_dir, name)
        self._folders.fetch(name, folder)
        best = _best_of(folder)
        if best is not None and best != name and ranks.on_first(lambda: self._folders.is_whole(best)):
            self._folders.fetch(best, Path(output_dir, best))
        return str(folder)

    def on_init_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",  # noqa: ARG002 - the interface's
        control: "TrainerControl",  # noqa: ARG002 - the interface's
        **_kwargs: Any,  # noqa: ANN401 - the interface's
    ) -> None:
        """Refuse an ``output_dir`` that is not local.

        Raises:
            OssConfigError: ``Trainer`` would write to a local folder ``oss:``.
        """
        _check_local(args.output_dir)

    def on_train_begin(
        self,
        args: "TrainingArguments",  # noqa: ARG002 - the interface's
        state: "TrainerState",
        control: "TrainerControl",  # noqa: ARG002 - the interface's
        **_kwargs: Any,  # noqa: ANN401 - the interface's
    ) -> None:
        """Refuse a search for hyperparameters, because each of its trials has checkpoints of the same names.

        Raises:
            OssConfigError: It is one.
        """
        if state.is_hyper_param_search:
            raise OssConfigError(
                "OssTrainerCallback keeps the checkpoints of one training, and this is a search for hyperparameters: "
                "leave the callback out, and train with it afterwards"
            )

    def on_save(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",  # noqa: ARG002 - the interface's
        **_kwargs: Any,  # noqa: ANN401 - the interface's
    ) -> None:
        """Upload the checkpoint that was saved, then delete old ones.

        Raises:
            OssError: The checkpoint was not stored, or an old one could not be deleted.
        """
        name = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        uri = self._folders.save(Path(str(args.output_dir), name), name)
        _logger.info("saved %s", uri)
        if self._keep is None:
            return
        best = state.best_model_checkpoint
        self._folders.keep(self._keep, () if best is None else (Path(best).name,))


def _check_local(output_dir: str | None) -> None:
    text = str(output_dir)
    if not re.match(r"[a-z][a-z0-9+.-]+:/", text):
        return
    # Trainer has made the folders already.
    remove_empty(Path(text))
    raise OssConfigError(
        f"output_dir={text!r} is a local folder for Trainer, not OSS: give a local directory, and the URI to "
        "OssTrainerCallback"
    )


def _best_of(folder: Path) -> str | None:
    """Return the name of the checkpoint that had the best metric when this one was saved."""
    try:
        best = json.loads((folder / _STATE).read_text(encoding="utf-8")).get("best_model_checkpoint")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(best).name if isinstance(best, str) else None
