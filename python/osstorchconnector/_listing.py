"""The place of a dataset's listing: a private directory of the process that made the dataset."""

import os
import shutil
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import Final

from osstorchconnector._native import Listing

# A listing of 50 million objects. A longer one would fill the disks that machines have for temporary files.
_LISTING_CACHE_BYTES: Final = 4 << 30


def new_listing() -> Listing:
    """Choose a directory, which is made at the first use and removed when this process ends or nobody uses it."""
    directory = Path(tempfile.gettempdir()) / f"osstorchconnector-{os.getuid()}-{uuid.uuid4().hex}"
    listing = Listing(str(directory), limit=_LISTING_CACHE_BYTES)
    weakref.finalize(listing, _remove, directory, os.getpid())
    return listing


def _remove(directory: Path, owner: int) -> None:
    # A forked child has a copy of everything, also of this duty.
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)
