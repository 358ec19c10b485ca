"""What all parts of a training need to read from OSS."""

import os
from dataclasses import dataclass
from typing import Literal

from osstorchconnector.connection.client import OssClient
from osstorchconnector.integrations.ultralytics.label_cache import LabelCache


@dataclass(frozen=True)
class DataSettings:
    """How a dataset is read.

    Attributes:
        client: Reads it. Each process makes its own native client.
        label_cache: Where scans are kept: None: in the user's directory for caches; False: nowhere.
        on_corrupt: What happens if an image or a label is corrupt.
    """

    client: OssClient
    label_cache: str | os.PathLike[str] | Literal[False] | None = None
    on_corrupt: Literal["drop", "raise"] = "drop"

    def cache(self, split: str) -> LabelCache | None:
        """Return the cache for a split, which a text names."""
        return None if self.label_cache is False else LabelCache(self.label_cache, self.client, split)
