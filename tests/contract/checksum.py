"""Checksums by an implementation of others."""

import hashlib

from oss2.utils import Crc64


def crc64(data: bytes) -> int:
    checksum = Crc64()
    checksum.update(data)
    crc: int = checksum.crc
    return crc


def etag(data: bytes) -> str:
    """Return the ETag of an object that was uploaded as one."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest().upper()
