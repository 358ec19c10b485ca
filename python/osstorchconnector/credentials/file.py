"""The access key in a JSON file."""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from osstorchconnector.credentials.source import Credentials, CredentialSource, unix_seconds
from osstorchconnector.exceptions import OssCredentialsError

_logger: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class FileCredentials(CredentialSource):
    """The access key in a JSON file.

    The file holds ``{"AccessKeyId": "...", "AccessKeySecret": "...", "SecurityToken": "...", "Expiration":
    "2024-08-02T15:04:05Z"}``, of which the last two are optional. It is read again when it was replaced or rewritten,
    and when its key has expired. Only the path travels in a pickle.
    """

    path: str
    _version: tuple[int, int, int] | None = field(default=None, init=False, repr=False)
    _credentials: Credentials | None = field(default=None, init=False, repr=False)

    def __call__(self, refused: str | None = None) -> Credentials:
        """Return the key in the file as it is now.

        While the file cannot be read, which may be the moment in which it is being rewritten, the last key read from it
        is good until it expires.

        Raises:
            OssCredentialsError: The file is missing or malformed.
        """
        known = self._credentials
        expired = known is not None and known.has_expired()
        try:
            version = self._stat()
            if known is not None and not expired and known.access_key_id != refused and version == self._version:
                return known
            # The version is taken before the reading: a file that changes in between is read once more.
            self._credentials = self._read()
            self._version = version
        except OssCredentialsError as error:
            if known is None or expired:
                raise
            _logger.warning("the access key read earlier is used on: %s", error)
            return known
        return self._credentials

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        """Travel as the path."""
        return type(self), (self.path,)

    def _stat(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - Path.stat() would make a Path for each of many calls
        except OSError as error:
            raise OssCredentialsError(f"credential file {self.path!r} cannot be read: {error.strerror}") from None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> Credentials:
        # No error here is chained: a JSON error carries the whole text of the file.
        try:
            document = json.loads(Path(self.path).read_bytes())
        except OSError as error:
            raise OssCredentialsError(f"credential file {self.path!r} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise OssCredentialsError(f"credential file {self.path!r} is not JSON") from None
        if not isinstance(document, dict):
            raise OssCredentialsError(f"credential file {self.path!r} must hold a JSON object")
        access_key_id = self._text(document, "AccessKeyId", required=True)
        access_key_secret = self._text(document, "AccessKeySecret", required=True)
        security_token = self._text(document, "SecurityToken")
        expiration = self._text(document, "Expiration")
        try:
            seconds = unix_seconds(expiration)
        except ValueError:
            raise OssCredentialsError(
                f"credential file {self.path!r}: Expiration must be a time like 2024-08-02T15:04:05Z"
            ) from None
        return Credentials(access_key_id or "", access_key_secret or "", security_token, seconds)

    def _text(self, document: dict[str, Any], name: str, *, required: bool = False) -> str | None:
        value = document.get(name)
        if required and name not in document:
            raise OssCredentialsError(f"credential file {self.path!r} has no field {name}")
        if not isinstance(value, str if required else str | None) or (required and not value):
            raise OssCredentialsError(f"credential file {self.path!r}: {name} must be a non-empty string")
        return value or None
