"""What of Lightning is installed: ``lightning``, ``pytorch_lightning``, or both."""

import importlib
import importlib.util
import inspect
from typing import Any, Final

from osstorchconnector._tested_versions import warn_if_untested

# The oldest and the newest release that the tests were run with.
_TESTED: Final = ((2, 4), (2, 6))


def interfaces() -> list[Any]:
    """Return the class ``CheckpointIO`` of each installed Lightning.

    Raises:
        ModuleNotFoundError: None is installed.
    """
    found = [
        importlib.import_module(f"{package}.plugins").CheckpointIO
        for package in ("lightning.fabric", "lightning_fabric")
        if importlib.util.find_spec(package.partition(".")[0]) is not None
    ]
    if not found:
        raise ModuleNotFoundError("Lightning is not installed: pip install 'lightning>=2.4'", name="lightning")
    for distribution in ("lightning", "pytorch-lightning"):
        warn_if_untested(distribution, *_TESTED)
    return found


def default_weights_only(found: list[Any]) -> bool | None:
    """Return what ``weights_only`` is for a caller that gives none.

    Lightning 2.4 and 2.5 give none, and their own plugin then loads everything that a checkpoint holds, such as
    hyperparameters of any class. Later releases always give it, and None is torch's default.
    """
    known = all("weights_only" in inspect.signature(one.load_checkpoint).parameters for one in found)
    return None if known else False
