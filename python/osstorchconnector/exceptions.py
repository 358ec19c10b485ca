"""The exceptions of this package.

::

    OssError                 (RuntimeError)
    ├── OssNotFoundError     (FileNotFoundError)  no such object, bucket or upload
    ├── OssExistsError       (FileExistsError)    the object exists, and must not be replaced
    ├── OssPermissionError   (PermissionError)    the service refused the key, the signature or the action
    ├── OssArchivedError                          the object is archived and must be restored before it is read
    ├── OssThrottledError                         still throttled after the last attempt
    ├── OssTimeoutError      (TimeoutError)       connecting, reading or the whole request took too long
    ├── OssConnectionError   (ConnectionError)    no connection, or it broke, and no attempt was left
    ├── OssIntegrityError                         bytes do not have the announced checksum, length or ETag
    ├── OssListingChangedError                    the listing changed since a dataset's state was taken
    ├── OssErrorLimitError                        more objects of a dataset failed than error_limit allows
    ├── OssFormatError       (ValueError)         an object does not have the expected format
    ├── OssKeyError          (KeyError)           an object has no entry of that name
    └── OssConfigError       (ValueError)         an argument, a configuration file or a URI is wrong
        └── OssCredentialsError                   no usable access key

Every class can be built from one string. ``str(error)`` ends with the fields that are set, in a fixed form::

    object not found [code="NoSuchKey", status=404, request_id="66F0", bucket="b", key="k", attempts=1]

An exception that is built from a text with such a form gets these fields again. So the fields survive the way from a
``torch.utils.data.DataLoader`` worker, whose exceptions arrive as ``type(error)(traceback_text)``.
"""

import contextlib
import errno as error_numbers
import json
import re
from typing import Final

from osstorchconnector._printable import CONTROLS, printable_lines

__all__ = [
    "OssArchivedError",
    "OssConfigError",
    "OssConnectionError",
    "OssCredentialsError",
    "OssError",
    "OssErrorLimitError",
    "OssExistsError",
    "OssFormatError",
    "OssIntegrityError",
    "OssKeyError",
    "OssListingChangedError",
    "OssNotFoundError",
    "OssPermissionError",
    "OssThrottledError",
    "OssTimeoutError",
]

# Brackets inside a value are escaped, so no value can contain, end or imitate the form around it.
_TEXT_FIELD: Final = r'(code|ec|request_id|bucket|key)=("(?:[^"\\\[\]]|\\.)*")'
_NUMBER_FIELD: Final = r"(status|attempts)=(\d+)"
_FIELD: Final = re.compile(f"{_TEXT_FIELD}|{_NUMBER_FIELD}")
_FORM: Final = re.compile(rf"\[(?:{_FIELD.pattern})(?:, (?:{_FIELD.pattern}))*\]")


class OssError(RuntimeError):
    """Base of every error this package raises for a failed operation. The original raises ``RuntimeError``.

    Attributes:
        code: The service's error code, such as ``NoSuchKey``.
        status: The HTTP status of the response.
        ec: The service's detailed error code, such as ``0026-00000001``.
        request_id: The service's identifier of the request; its support asks for it.
        bucket: The bucket concerned.
        key: The object's key inside the bucket.
        attempts: How many times the request was sent.
    """

    code: str | None
    status: int | None
    ec: str | None
    request_id: str | None
    bucket: str | None
    key: str | None
    attempts: int | None

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        ec: str | None = None,
        request_id: str | None = None,
        bucket: str | None = None,
        key: str | None = None,
        attempts: int | None = None,
    ) -> None:
        """Build the exception from its message and fields, or from the text of an earlier one.

        Args:
            message: What failed, on which object, and what to do. If no field is given, the fields are read from the
                last bracketed form in this text.
            code: The service's error code.
            status: The HTTP status.
            ec: The service's detailed error code.
            request_id: The service's identifier of the request.
            bucket: The bucket concerned.
            key: The object's key inside the bucket.
            attempts: How many times the request was sent.
        """
        fields: dict[str, str | int | None] = {
            "code": code,
            "status": status,
            "ec": ec,
            "request_id": request_id,
            "bucket": bucket,
            "key": key,
            "attempts": attempts,
        }
        form = ", ".join(f"{name}={_encode(value)}" for name, value in fields.items() if value is not None)
        if form:
            text = f"{printable_lines(message)} [{form}]"
        else:
            text = printable_lines(message)
            fields.update(_fields_in(message))
        super().__init__(text)
        self.__dict__.update(fields)


class OssNotFoundError(OssError, FileNotFoundError):
    """The object, bucket or multipart upload does not exist."""

    errno = error_numbers.ENOENT


class OssExistsError(OssError, FileExistsError):
    """The object exists, and the request said that it must not be replaced."""

    errno = error_numbers.EEXIST


class OssPermissionError(OssError, PermissionError):
    """The service refused the access key, the signature or the action."""

    errno = error_numbers.EPERM


class OssArchivedError(OssError):
    """The object is archived: it must be restored before it can be read or copied."""


class OssThrottledError(OssError):
    """The service asked for a lower request rate, still after the last attempt."""


class OssTimeoutError(OssError, TimeoutError):
    """Connecting, waiting for the next byte, or the request with all its attempts took longer than configured."""

    errno = error_numbers.ETIMEDOUT


class OssConnectionError(OssError, ConnectionError):
    """No connection could be made, or it broke, and no attempt was left."""


class OssIntegrityError(OssError):
    """The received or stored bytes do not have the announced checksum, length or ETag."""


class OssFormatError(OssError, ValueError):
    """The content of an object does not have the expected format."""


class OssKeyError(OssError, KeyError):
    """An object has no entry of that name, such as a tensor."""

    # KeyError would show the message in quotes, and escape its line breaks and quotes.
    __str__ = Exception.__str__


class OssListingChangedError(OssError):
    """The listing has changed since a dataset's state was taken."""


class OssErrorLimitError(OssError):
    """More objects of a dataset failed than its ``error_limit`` allows; the message counts them."""


class OssConfigError(OssError, ValueError):
    """An argument, a configuration value, a configuration file or a URI is wrong."""


class OssCredentialsError(OssConfigError):
    """There is no usable access key, or a pickle would have carried a secret out of the process."""


def _encode(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    quoted = json.dumps(value, ensure_ascii=False).replace("[", "\\u005b").replace("]", "\\u005d")
    return CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)


def _fields_in(text: str) -> dict[str, str | int]:
    start = text.rfind("[")
    while start >= 0:
        form = _FORM.match(text, start)
        if form is not None:
            # A text that only looks like the form may have other escapes than JSON, or more digits than a number.
            with contextlib.suppress(ValueError):
                return {
                    text_name or number_name: json.loads(quoted) if text_name else int(digits)
                    for text_name, quoted, number_name, digits in _FIELD.findall(form.group())
                }
        start = text.rfind("[", 0, start)
    return {}
