"""Why a load failed. If a byte is wrong, torch raises an error of its own that does not say so."""

import logging
import zipfile
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Final

from osstorchconnector._native import OssReader, crc64
from osstorchconnector.checkpoint.records import gaps, pieces
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError

_logger: Final = logging.getLogger(__name__)

# What torch, pickle and zipfile say of bytes that are not, or not all, what `torch.save` writes. A class that torch
# refuses is not among them.
_NOT_UNDERSTOOD: Final = (
    "PytorchStreamReader",
    "hasRecord",
    "Ran out of input",
    "Invalid magic number",
    "invalid load key",
    "pickle data was truncated",
    "unexpected EOF",
    "unexpected end of data",
    "Unsupported operand",
)


# How a zip file begins, and a pickle as torch writes it.
_BEGINNINGS: Final = (b"PK\x03\x04", b"\x80")


def why_no_checkpoint(error: Exception, reader: OssReader) -> str | None:
    """Return in a few words why the bytes are no checkpoint, or not the whole of one, if a load failed for that.

    Raises:
        OssError: The first bytes could not be read again.
    """
    if isinstance(error, OssError):
        return None
    if isinstance(error, zipfile.BadZipFile):
        return str(error)
    reader.seek(0)
    if not reader.read(4).startswith(_BEGINNINGS):
        return "it begins with other bytes"
    not_understood = isinstance(error, EOFError) or (
        isinstance(error, RuntimeError | UnpicklingError) and any(text in str(error) for text in _NOT_UNDERSTOOD)
    )
    return "it ends too early, or something else is in it" if not_understood else None


def raise_cause(
    error: Exception,
    handled: BaseException | None,
    reader: OssReader,
    reopen: Callable[[], OssReader],
    *,
    partial: bool = False,
) -> None:
    """Raise the error of this package that made a load fail, if there is one, and return otherwise.

    It is the error that torch or another library replaced by its own. Or the bytes that were read are not those that
    are stored, so that torch could not understand them. To find this out, bytes are read again.

    Args:
        error: What the load raised.
        handled: The exception that was being handled when the load began: it is not the cause.
        reader: What the load read from.
        reopen: Opens the object once more.
        partial: Only some entries were to be loaded. Then the rest of the object is not read.

    Raises:
        OssIntegrityError: The bytes that were read are wrong.
        OssError: The cause.
    """
    if isinstance(error, SystemError) and reader.failure is not None:
        # torch made it of what `readinto` raised while the old format was read.
        raise reader.failure from None
    own = _own_error(error, handled)
    if own is error:
        return
    if own is not None:
        raise own from own.__cause__
    try:
        wrong = _what_is_wrong(error, reader, reopen, partial=partial)
    except OssIntegrityError as found:
        raise found from error
    except OssError as failure:
        error.add_note(f"whether the bytes that were read are right is not known: {failure}")
        return
    if wrong is not None:
        raise OssIntegrityError(wrong) from error


def _own_error(error: BaseException | None, handled: BaseException | None) -> OssError | None:
    seen: list[BaseException] = []
    while error is not None and error is not handled and error not in seen:
        # An OssConfigError says that the object is of another kind, which wrong bytes may also have caused.
        if isinstance(error, OssError) and type(error) is not OssConfigError:
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _what_is_wrong(
    error: Exception, reader: OssReader, reopen: Callable[[], OssReader], *, partial: bool
) -> str | None:
    """Return what is wrong with the bytes that were read; None: they are those that are stored."""
    received = reader.received()
    count = sum(end - start for start, end, _ in received)
    if count == 0:
        return None
    if count == reader.size:
        # Every read compares the object's checksum now. torch may have lost the error of the read that did so first.
        reader.readinto_many([(0, bytearray(1))])
        return None
    intact = partial or _has_intact_record(reader)
    with reopen() as again:
        if again.etag != reader.etag:
            return f"{reader.uri} was replaced while it was loaded; load it again"
        if intact or count <= reader.size // 2:
            for start, end, checksum in received:
                if _checksum(again, start, end) != checksum:
                    return (
                        f"bytes {start} to {end} of {reader.uri} were corrupted on the way, so that torch could not "
                        "understand them; load it again"
                    )
        if not intact:
            _logger.warning(
                "%s cannot be loaded (%s: %s): reading all of it, to compare its checksum",
                reader.uri,
                type(error).__name__,
                error,
            )
            for start, end in gaps(received, reader.size):
                for _ in pieces(reader, start, end):
                    pass
    return None


def _has_intact_record(reader: OssReader) -> bool:
    """Return whether the object is a zip file of torch whose pickle has its checksum.

    All other records are taken as they are, so torch can only fail at the pickle.
    """
    try:
        with zipfile.ZipFile(reader) as archive:
            for name in archive.namelist():
                if name.partition("/")[2] == "data.pkl":
                    # It compares the checksum.
                    archive.read(name)
                    return True
    except OssError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged directory may raise anything
        if own := _own_error(error, None):
            raise own from own.__cause__
    return False


def _checksum(reader: OssReader, start: int, end: int) -> int:
    value = 0
    for piece in pieces(reader, start, end):
        value = crc64(piece, value)
    return value
