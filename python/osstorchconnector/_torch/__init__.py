"""The only place that uses torch's private names, so that a new torch can break nothing else.

Each module lists its names with the versions of torch that have them; the oldest supported one is 2.6, and 2.7 for
distributed checkpoints. The two modules are separate because importing :mod:`torch.distributed.checkpoint` takes a
second. ``tools/check_layers.py`` finds private names of torch anywhere else.

Importing this package checks the version of torch.
"""

import re

import torch

__all__ = ["require_torch"]


def require_torch(minor: int, reason: str) -> None:
    """Check that the installed torch is version 2.``minor`` or newer.

    Raises:
        ImportError: It is older.
    """
    # A build of one's own may have any text after the first two numbers.
    found = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if found and (int(found[1]), int(found[2])) < (2, minor):
        raise ImportError(
            f"torch {torch.__version__} is too old: 2.{minor} or newer is needed, because {reason}; "
            f"run: pip install 'torch>=2.{minor}'",
            name="torch",
        )


require_torch(6, "older releases run code from a file also with weights_only=True (CVE-2025-32434)")
