"""An access key, and the source that supplies one."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from osstorchconnector.credentials.shield import shielded
from osstorchconnector.exceptions import OssCredentialsError
from osstorchconnector.process.owner import PerProcess
from osstorchconnector.process.starting import is_starting_process

# Threads that waited for the attempt come within milliseconds. For a later call, the cause may have been removed.
_RECENT_SECONDS: Final = 1.0


class Credentials(NamedTuple):
    """An access key.

    Attributes:
        access_key_id: Its public half.
        access_key_secret: Its secret half.
        security_token: The token of a temporary key.
        expiration: Unix time in seconds; None if the key does not expire.
    """

    # The native client reads the fields in this order.
    access_key_id: str
    access_key_secret: str
    security_token: str | None = None
    expiration: float | None = None

    def has_expired(self, ahead: float = 0.0) -> bool:
        """Return whether the key has expired by this machine's clock, or will have in `ahead` seconds."""
        return self.expiration is not None and self.expiration <= time.time() + ahead

    def __repr__(self) -> str:
        """Return the class, without the values."""
        return "Credentials(***)"


class CredentialSource(ABC):
    """A source of access keys: a call returns the key to use now.

    The native client calls it from its own thread: when the last key is old or soon expires, and when the service
    refused it.
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Shield the entries of a subclass: what they raise holds no frame with an access key."""
        super().__init_subclass__()
        for name in ("__init__", "__call__", "check", "source", "from_environment", "identity"):
            entry = cls.__dict__.get(name)
            if isinstance(entry, classmethod):
                setattr(cls, name, classmethod(shielded(entry.__func__)))
            elif callable(entry) and not getattr(entry, "__isabstractmethod__", False):
                setattr(cls, name, shielded(entry))

    @abstractmethod
    def __call__(self, refused: str | None = None) -> Credentials:
        """Return the access key to use now.

        Args:
            refused: ID of a key that the service has just refused. The source must not return it from memory.

        Raises:
            OssCredentialsError: There is no key.
        """

    def identity(self) -> Hashable:
        """Return what is equal for sources that return the same keys: their clients share connections.

        It consists of strings, numbers, None and tuples, and may hold secrets. Default: an identity of its own.
        """
        return id(self)

    def get_credentials(self) -> Credentials:
        """Return the access key to use now, under the name that the OSS SDKs call.

        Raises:
            OssCredentialsError: There is no key.
        """
        return self()

    def __repr__(self) -> str:
        """Return the class, without its content."""
        return f"{type(self).__name__}(...)"


class NotConfiguredError(OssCredentialsError):
    """This place is not configured, so the next place is searched."""


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
    """The last failure. All threads that waited for the same attempt raise it at once."""

    __slots__ = ("_failure",)

    def __init__(self) -> None:
        """Start without a failure."""
        self._failure: tuple[float, OssCredentialsError] | None = None

    def raise_again(self) -> None:
        """Raise the failure again if it is recent.

        Raises:
            OssCredentialsError: The failure.
        """
        failure = self._failure
        if failure is not None and time.monotonic() - failure[0] < _RECENT_SECONDS:
            raise type(failure[1])(str(failure[1]))

    def remember(self, error: OssCredentialsError) -> None:
        """Keep a failure."""
        self._failure = time.monotonic(), type(error)(str(error))


def refuse_to_pickle_secrets(owner: str) -> None:
    """Raise unless a process is being started: that pickle goes through a pipe and not into a file.

    Args:
        owner: The thing that holds the secret, for the message.

    Raises:
        OssCredentialsError: This is another pickle.
    """
    if not is_starting_process():
        raise OssCredentialsError(
            f"{owner} cannot be pickled, so that no secret gets into a file or to another machine: "
            "give cred_path or environment variables instead, of which only the names are pickled"
        )


def unix_seconds(value: object) -> float | None:
    """Return a time as Unix seconds. A time without a zone is UTC, as in the SDKs.

    Raises:
        ValueError: It is not a time.
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
