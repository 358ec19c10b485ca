"""Sizes of shards, as numbers or as Hugging Face writes them."""

import re
from typing import Final

from osstorchconnector.exceptions import OssConfigError

#: As other libraries cut models: large enough for full speed, small enough to handle.
SHARD_BYTES: Final = 5_000_000_000
_UNITS: Final = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", start=1)},
}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", re.ASCII)


def shard_size(shard_bytes: int, max_shard_size: int | str | None, *, directory: bool) -> int:
    """Return the upper limit of the bytes of tensors in one shard.

    Args:
        shard_bytes: The limit in bytes.
        max_shard_size: The limit by its other name, which may be a text such as ``"5GB"``.
        directory: Whether shards are stored at all.

    Raises:
        OssConfigError: Both are given, or one is no size, or `max_shard_size` is for one object.
    """
    if max_shard_size is None:
        return _checked("shard_bytes", shard_bytes)
    if shard_bytes != SHARD_BYTES:
        raise OssConfigError("shard_bytes and max_shard_size are the same limit: give one of them")
    if not directory:
        raise OssConfigError("max_shard_size is for directories: end the URI with / to store shards and an index")
    if not isinstance(max_shard_size, str):
        return _checked("max_shard_size", max_shard_size)
    match = _SIZE.fullmatch(max_shard_size)
    unit = None if match is None else _UNITS.get(match[2].upper())
    size = 0 if match is None or unit is None else int(float(match[1]) * unit)
    if size < 1:
        raise OssConfigError(
            f"max_shard_size must be a number of bytes or a text such as '5GB' or '512MiB', got {max_shard_size!r}"
        )
    return size


def _checked(name: str, size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise OssConfigError(f"{name} must be a whole number above 0, got {size!r}")
    return size
