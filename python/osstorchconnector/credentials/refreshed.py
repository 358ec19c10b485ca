"""Temporary access keys, kept until shortly before they expire."""

import logging
from abc import abstractmethod
from typing import Any, Final

from osstorchconnector.credentials.source import Credentials, CredentialSource, ProcessLock, RecentFailure
from osstorchconnector.exceptions import OssCredentialsError

_logger: Final = logging.getLogger(__name__)

# The native client asks 300 seconds ahead of the expiration: a minute more, and its question is never answered with the
# key that it has.
_AHEAD_SECONDS: Final = 360.0


class RefreshedCredentials(CredentialSource):
    """Temporary access keys of a service: one request for them at a time, in each process."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - those of the class below
        """Remember what the object is made from: that is its pickle."""
        self._arguments = arguments
        self._held: Credentials | None = None
        self._failure = RecentFailure()
        self._lock = ProcessLock()

    @abstractmethod
    def fetch(self, refused: str | None) -> Credentials:
        """Ask the service for an access key.

        Args:
            refused: ID of a key that OSS has just refused.

        Raises:
            OssCredentialsError: It gave none.
        """

    def __call__(self, refused: str | None = None) -> Credentials:
        """Return an access key that holds for some minutes.

        Where the service fails, the last key is good until it expires.

        Raises:
            OssCredentialsError: There is none.
        """
        usable = self._usable(refused)
        if usable is not None:
            return usable
        with self._lock:
            # Another thread may have fetched it meanwhile.
            usable = self._usable(refused)
            if usable is not None:
                return usable
            held = self._held
            try:
                self._held = fetched = self._fetch(refused)
            except OssCredentialsError as error:
                if held is None or held.has_expired() or held.access_key_id == refused:
                    raise
                _logger.warning("the access key fetched earlier is used on: %s", error)
                return held
            return fetched

    def _usable(self, refused: str | None) -> Credentials | None:
        held = self._held
        if held is None or held.has_expired(_AHEAD_SECONDS) or held.access_key_id == refused:
            return None
        return held

    def _fetch(self, refused: str | None) -> Credentials:
        self._failure.tell()
        try:
            return self.fetch(refused)
        except OssCredentialsError as error:
            self._failure.remember(error)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as what it was made from: a key that was fetched stays in its process."""
        return type(self), self._arguments
