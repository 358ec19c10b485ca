"""Where access keys come from.

A source is a callable without arguments that returns the access key as it is now. The native client calls it from its
own thread: when the cached value grows old or is about to expire, and when the service refused it.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from osstorchconnector.exceptions import OssCredentialsError

_logger: Final = logging.getLogger(__name__)

# In the order in which they are looked up: those of the OSS SDKs, then those of the other Alibaba Cloud SDKs.
_ENVIRONMENT: Final = (
    ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
)

_WAYS: Final = (
    "give cred_path (a JSON file with AccessKeyId and AccessKeySecret), cred_provider, "
    "OssConfig(access_key_id=..., access_key_secret=...) or OssConfig(anonymous=True), "
    "or set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
)


class Credentials(NamedTuple):
    """An access key, in the form the native client takes."""

    access_key_id: str
    access_key_secret: str
    security_token: str | None = None
    #: Unix time in seconds; None where the key does not expire.
    expiration: float | None = None

    def has_expired(self) -> bool:
        """Return whether the key has expired by this machine's clock."""
        return self.expiration is not None and self.expiration <= time.time()

    def __repr__(self) -> str:
        """Return the shape without the values."""
        return "Credentials(***)"


#: None stands for anonymous requests.
CredentialSource = Callable[[], Credentials]


def refuse_to_pickle_secrets(owner: str) -> None:
    """Raise unless a process is being started, where the pickle goes through a pipe and ends in no file.

    Args:
        owner: What holds the secret, for the message.

    Raises:
        OssCredentialsError: This is some other pickle.
    """
    if get_spawning_popen() is None:
        raise OssCredentialsError(
            f"{owner} is not pickled, so that no secret ends in a file or another machine: "
            "give cred_path or environment variables instead, of which only the name travels"
        )


class ExplicitCredentials:
    """An access key given in the program."""

    def __init__(self, access_key_id: str, access_key_secret: str, security_token: str | None) -> None:
        """Hold the key."""
        self._credentials = Credentials(access_key_id, access_key_secret, security_token)

    def __call__(self) -> Credentials:
        """Return the key."""
        return self._credentials

    def __copy__(self) -> Self:
        """Return this object: it does not change."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this object: it does not change."""
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str | None]]:
        """Travel to a process that is being started, and nowhere else.

        Raises:
            OssCredentialsError: No process is being started.
        """
        refuse_to_pickle_secrets("an access key given in OssConfig")
        credentials = self._credentials
        return type(self), (credentials.access_key_id, credentials.access_key_secret, credentials.security_token)


class ProviderCredentials:
    """Access keys from a provider object of an Alibaba Cloud SDK, or any object like it.

    The provider has a method ``get_credentials`` (``oss2``, ``alibabacloud_oss_v2``) or ``get_credential``
    (``alibabacloud-credentials``). What it returns has attributes ``access_key_id``, ``access_key_secret``,
    ``security_token`` and ``expiration``, of which the last two are optional, or getters ``get_access_key_id()`` and so
    on.
    """

    def __init__(self, provider: object) -> None:
        """Hold the provider, without calling it: that may use the network.

        Raises:
            OssCredentialsError: The provider has neither method.
        """
        for name in ("get_credentials", "get_credential"):
            if callable(getattr(provider, name, None)):
                self._method = name
                break
        else:
            raise OssCredentialsError(f"cred_provider of type {_type_name(provider)} has no method get_credentials()")
        self._provider = provider

    def __call__(self) -> Credentials:
        """Ask the provider.

        Raises:
            OssCredentialsError: The provider failed, or what it returned is no access key.
        """
        name = _type_name(self._provider)
        try:
            found = getattr(self._provider, self._method)()
            values = [_read(found, field) for field in (*Credentials._fields,)]
        except Exception as error:
            raise OssCredentialsError(f"cred_provider of type {name} failed with {type(error).__name__}") from error
        for field_name, value in zip(Credentials._fields[:2], values[:2], strict=True):
            if not isinstance(value, str) or not value:
                raise OssCredentialsError(f"cred_provider of type {name} returned no {field_name}")
        token = values[2] or None
        if not isinstance(token, str | None):
            raise OssCredentialsError(f"cred_provider of type {name} returned a security_token that is not a string")
        try:
            expiration = _unix_seconds(values[3])
        except ValueError:
            raise OssCredentialsError(f"cred_provider of type {name} returned an expiration that is no time") from None
        return Credentials(values[0], values[1], token, expiration)

    def __copy__(self) -> Self:
        """Return this object: the provider is shared, not doubled."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this object: the provider is shared, not doubled."""
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[object]]:
        """Travel to a process that is being started, and nowhere else.

        Raises:
            OssCredentialsError: No process is being started.
        """
        refuse_to_pickle_secrets("a cred_provider")
        return type(self), (self._provider,)


@dataclass(slots=True)
class FileCredentials:
    """The access key in a JSON file.

    The file holds ``{"AccessKeyId": "...", "AccessKeySecret": "...", "SecurityToken": "...", "Expiration":
    "2024-08-02T15:04:05Z"}``, of which the last two are optional. It is read again when it was replaced or rewritten,
    and when its key has expired. Only the path travels in a pickle.
    """

    path: str
    _version: tuple[int, int, int] | None = field(default=None, init=False, repr=False)
    _credentials: Credentials | None = field(default=None, init=False, repr=False)

    def __call__(self) -> Credentials:
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
            if known is not None and not expired and version == self._version:
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
            seconds = _unix_seconds(expiration)
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


@dataclass(frozen=True, slots=True)
class EnvironmentCredentials:
    """The access key in this process's environment. Nothing of it travels in a pickle."""

    def __call__(self) -> Credentials:
        """Return the key in the environment as it is now.

        Raises:
            OssCredentialsError: There is none.
        """
        for id_name, secret_name, token_name in _ENVIRONMENT:
            access_key_id = os.environ.get(id_name)
            access_key_secret = os.environ.get(secret_name)
            if access_key_id and access_key_secret:
                return Credentials(access_key_id, access_key_secret, os.environ.get(token_name) or None)
            if access_key_id or access_key_secret:
                missing = secret_name if access_key_id else id_name
                raise OssCredentialsError(f"the environment has half an access key: {missing} is missing")
        raise OssCredentialsError(f"no credentials: {_WAYS}")


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _read(found: object, name: str) -> Any:  # noqa: ANN401 - whatever the provider put there
    value = getattr(found, name, None)
    if value is None:
        getter = getattr(found, f"get_{name}", None)
        value = getter() if callable(getter) else None
    return value


def _unix_seconds(value: object) -> float | None:
    """Return a time as Unix seconds; a time without a zone is UTC, as in the SDKs."""
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(type(value))
