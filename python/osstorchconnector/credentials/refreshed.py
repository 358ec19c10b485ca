"""Temporary access keys, kept until shortly before they expire."""

import logging
from abc import abstractmethod
from collections.abc import Hashable
from typing import Any, Final

from osstorchconnector.credentials.source import Credentials, CredentialSource, ProcessLock, RecentFailure
from osstorchconnector.exceptions import OssCredentialsError

_logger: Final = logging.getLogger(__name__)

# The native client asks for a key 300 seconds before the expiration. With a minute more here, it never gets the key
# that it already has.
_AHEAD_SECONDS: Final = 360.0


class RefreshedCredentials(CredentialSource):
    """Temporary access keys of a service. A process sends one request for them at a time."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - those of the subclass
        """Remember the arguments: they are the pickle."""
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
            OssCredentialsError: It returned none.
        """

    def __call__(self, refused: str | None = None) -> Credentials:
        """Return an access key that is valid for some minutes.

        If the service fails, the last key is used until it expires.

        Raises:
            OssCredentialsError: There is none.
        """
        usable = self._usable(refused)
        if usable is not None:
            return usable
        with self._lock:
            # Another thread may have fetched one meanwhile.
            usable = self._usable(refused)
            if usable is not None:
                return usable
            held = self._held
            try:
                self._held = fetched = self._fetch(refused)
            except OssCredentialsError as error:
                if held is None or held.has_expired() or held.access_key_id == refused:
                    raise
                _logger.warning("the access key that was fetched earlier is still used: %s", error)
                return held
            return fetched

    def identity(self) -> Hashable:
        """Return the arguments."""
        return type(self).__qualname__, type(self).__module__, *self._arguments

    def _usable(self, refused: str | None) -> Credentials | None:
        held = self._held
        if held is None or held.has_expired(_AHEAD_SECONDS) or held.access_key_id == refused:
            return None
        return held

    def _fetch(self, refused: str | None) -> Credentials:
        self._failure.raise_again()
        try:
            return self.fetch(refused)
        except OssCredentialsError as error:
            self._failure.remember(error)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments: a key that was fetched stays in its process."""
        return type(self), self._arguments
