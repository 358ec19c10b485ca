"""Values of options: sizes, durations and ports."""

import argparse
import math
import re
from datetime import timedelta
from typing import Final

_SIZE_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AGE_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """Read a number of seconds, such as ``0.5``."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds: give a number of at least 0")
    return value


def size(text: str) -> int:
    """Read a number of bytes, such as ``500M``."""
    digits, unit = (text[:-1], text[-1:]) if text[-1:] in _SIZE_UNITS else (text, "")
    value = int(digits) * _SIZE_UNITS.get(unit, 1) if digits.isascii() and digits.isdigit() else 0
    # The native core counts in 64 bits.
    if not 0 < value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give a whole number, with K, M, G or T if you like")
    return value


def port(text: str) -> int:
    """Read a port; 0 stands for any free port."""
    value = int(text) if text.isascii() and text.isdigit() else -1
    # The largest port number of TCP.
    if not 0 <= value <= 65535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a whole number from 0 to 65535")
    return value


def age(text: str) -> timedelta:
    """Read an age, such as ``12h``."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: give a number with s, m, h or d, such as 12h")
    return timedelta(seconds=int(match[1]) * _AGE_UNITS[match[2]])
