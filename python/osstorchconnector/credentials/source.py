"""An access key, and what supplies one."""

import threading
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Final, NamedTuple

from osstorchconnector.exceptions import OssCredentialsError
from osstorchconnector.process.owner import PerProcess
from osstorchconnector.process.starting import is_starting_process

# Those who waited come within milliseconds; whoever comes later may find that the cause has been removed.
_RECENT_SECONDS: Final = 1.0


class Credentials(NamedTuple):
    """An access key.

    Attributes:
        access_key_id: Its public half.
        access_key_secret: Its secret half.
        security_token: The token of a temporary key.
        expiration: Unix time in seconds; None where the key does not expire.
    """

    # The order is the one in which the native client reads them.
    access_key_id: str
    access_key_secret: str
    security_token: str | None = None
    expiration: float | None = None

    def has_expired(self, ahead: float = 0.0) -> bool:
        """Return whether the key has expired by this machine's clock, or will have in `ahead` seconds."""
        return self.expiration is not None and self.expiration <= time.time() + ahead

    def __repr__(self) -> str:
        """Return the shape without the values."""
        return "Credentials(***)"


class CredentialSource(ABC):
    """What supplies access keys: call it, and it returns the one to use now.

    The native client calls it from a thread of its own: when the last answer grows old or is about to expire, and when
    the service refused it.
    """

    __slots__ = ()

    @abstractmethod
    def __call__(self, refused: str | None = None) -> Credentials:
        """Return the access key to use now.

        Args:
            refused: ID of a key that the service has just refused: it is not answered from memory.

        Raises:
            OssCredentialsError: There is none.
        """

    def get_credentials(self) -> Credentials:
        """Return the access key to use now, under the name that the OSS SDKs call.

        Raises:
            OssCredentialsError: There is none.
        """
        return self()

    def __repr__(self) -> str:
        """Return the class, without what it holds."""
        return f"{type(self).__name__}(...)"


class NotConfiguredError(OssCredentialsError):
    """Nothing says that access keys come from here, so the next place is looked at."""


class ProcessLock:
    """A lock of each process's own: nobody would release a lock that a fork copied while it was held."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        """Make no lock yet."""
        self._locks: PerProcess[threading.Lock] = PerProcess()

    def __enter__(self) -> None:
        """Wait for this process's lock and take it."""
        self._locks.get(threading.Lock).acquire()

    def __exit__(self, *_exception: object) -> None:
        """Release this process's lock."""
        self._locks.get(threading.Lock).release()


class RecentFailure:
    """The last failure, for those who waited for the same attempt: each of them is told at once."""

    __slots__ = ("_failure",)

    def __init__(self) -> None:
        """Start without one."""
        self._failure: tuple[float, OssCredentialsError] | None = None

    def tell(self) -> None:
        """Raise the failure anew if it is recent.

        Raises:
            OssCredentialsError: It is.
        """
        failure = self._failure
        if failure is not None and time.monotonic() - failure[0] < _RECENT_SECONDS:
            raise type(failure[1])(str(failure[1]))

    def remember(self, error: OssCredentialsError) -> None:
        """Keep a failure, from now on."""
        self._failure = time.monotonic(), type(error)(str(error))


def refuse_to_pickle_secrets(owner: str) -> None:
    """Raise unless a process is being started, where the pickle goes through a pipe and ends in no file.

    Args:
        owner: What holds the secret, for the message.

    Raises:
        OssCredentialsError: This is some other pickle.
    """
    if not is_starting_process():
        raise OssCredentialsError(
            f"{owner} is not pickled, so that no secret ends in a file or another machine: "
            "give cred_path or environment variables instead, of which only the name travels"
        )


def unix_seconds(value: object) -> float | None:
    """Return a time as Unix seconds; a time without a zone is UTC, as in the SDKs.

    Raises:
        ValueError: It is no time.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(type(value))
