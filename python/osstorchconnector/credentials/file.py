"""The access key in a JSON file."""

import logging
import os
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from osstorchconnector._json import read_json
from osstorchconnector.credentials.source import Credentials, CredentialSource, unix_seconds
from osstorchconnector.exceptions import OssCredentialsError

_logger: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class FileCredentials(CredentialSource):
    """The access key in a JSON file.

    The file holds ``{"AccessKeyId": "...", "AccessKeySecret": "...", "SecurityToken": "...", "Expiration":
    "2024-08-02T15:04:05Z"}``; the last two are optional. It is read again after it was replaced or rewritten, and after
    its key has expired. A pickle holds only the path.
    """

    path: str
    _version: tuple[int, int, int] | None = field(default=None, init=False, repr=False)
    _credentials: Credentials | None = field(default=None, init=False, repr=False)

    def __call__(self, refused: str | None = None) -> Credentials:
        """Return the key in the file as it is now.

        If the file cannot be read, for instance while it is being rewritten, the last key is used until it expires.

        Raises:
            OssCredentialsError: The file is missing or malformed.
        """
        known = self._credentials
        expired = known is not None and known.has_expired()
        try:
            version = self._stat()
            if known is not None and not expired and known.access_key_id != refused and version == self._version:
                return known
            # The version is taken before reading: if the file changes in between, the next call reads it again.
            self._credentials = self._read()
            self._version = version
        except OssCredentialsError as error:
            if known is None or expired:
                raise
            _logger.warning("the access key that was read earlier is still used: %s", error)
            return known
        return self._credentials

    def identity(self) -> Hashable:
        """Return the path and which version of the file it is."""
        return type(self).__name__, str(Path(self.path).absolute()), *self._stat()

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        """Pickle the path."""
        return type(self), (self.path,)

    def _stat(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - Path.stat() would make a Path for each of many calls
        except OSError as error:
            raise OssCredentialsError(f"credential file {self.path!r} cannot be read: {error.strerror}") from None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> Credentials:
        # No error here is chained: a JSON error contains the whole text of the file.
        try:
            document = read_json(Path(self.path).read_bytes())
        except OSError as error:
            raise OssCredentialsError(f"credential file {self.path!r} cannot be read: {error.strerror}") from None
        except ValueError:
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
