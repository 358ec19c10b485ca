"""Access keys from the places that the other Alibaba Cloud SDKs search."""

import contextlib
import importlib
import os
from collections.abc import Hashable
from typing import Final, Self

from osstorchconnector.credentials.environment import EnvironmentCredentials
from osstorchconnector.credentials.source import (
    Credentials,
    CredentialSource,
    NotConfiguredError,
    ProcessLock,
    RecentFailure,
)
from osstorchconnector.exceptions import OssCredentialsError

#: How a program gives an access key.
WAYS: Final = (
    "give cred_path (a JSON file with AccessKeyId and AccessKeySecret), cred_provider, "
    "OssConfig(access_key_id=..., access_key_secret=...) or OssConfig(anonymous=True), "
    "or set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
)


# The order of the other Alibaba Cloud SDKs. A class is imported when its place is searched: few programs need several.
_PLACES: Final = (
    ("environment", "EnvironmentCredentials"),
    ("OIDC role", "OidcRoleCredentials"),
    ("profile of the aliyun CLI", "CliProfileCredentials"),
    ("INI profile", "IniProfileCredentials"),
    ("ECS RAM role", "EcsRoleCredentials"),
    ("credentials URI", "UriCredentials"),
)


def _made(kind: str) -> CredentialSource:
    """Return the source of a class as the environment describes it, without using the network."""
    if kind == EnvironmentCredentials.__name__:
        source = EnvironmentCredentials()
        source()
        return source
    made: CredentialSource = getattr(importlib.import_module("osstorchconnector.credentials"), kind).from_environment()
    return made


class DefaultCredentials(CredentialSource):
    """Access keys from the first place that is configured.

    1. The environment: ``OSS_ACCESS_KEY_ID`` and ``OSS_ACCESS_KEY_SECRET``, else ``ALIBABA_CLOUD_ACCESS_KEY_ID`` and
       ``ALIBABA_CLOUD_ACCESS_KEY_SECRET``.
    2. An OIDC role (RRSA), if ``ALIBABA_CLOUD_ROLE_ARN``, ``ALIBABA_CLOUD_OIDC_PROVIDER_ARN`` and
       ``ALIBABA_CLOUD_OIDC_TOKEN_FILE`` are set.
    3. The current profile of the ``aliyun`` command line tool.
    4. An INI profile.
    5. The RAM role of this ECS instance.
    6. The address in ``ALIBABA_CLOUD_CREDENTIALS_URI``.

    Later keys come from the same place as the first key. If a place is configured and fails, it raises: the next place
    could be another identity.
    """

    def __init__(self) -> None:
        """Search no place yet."""
        self._chosen: CredentialSource | None = None
        self._place: str | None = None
        self._lock = ProcessLock()
        self._failure = RecentFailure()

    @property
    def place(self) -> str | None:
        """The name of the place that the keys come from; None before the first key."""
        return self._place

    def check(self) -> None:
        """Search the places, without using the network.

        Raises:
            OssCredentialsError: No place is configured, or the configuration of one is malformed.
        """
        reasons = []
        for name, kind in _PLACES:
            try:
                _made(kind)
            except NotConfiguredError as error:
                reasons.append(f"{name}: {error}")
            else:
                return
        raise _nothing(reasons)

    def __call__(self, refused: str | None = None) -> Credentials:
        """Return the access key to use now.

        Raises:
            OssCredentialsError: No place is configured, and the message names all of them; or the configured place
                failed.
        """
        chosen = self._chosen
        if chosen is not None:
            return chosen(refused)
        with self._lock:
            chosen = self._chosen
            return chosen(refused) if chosen is not None else self._choose(refused)

    def identity(self) -> Hashable:
        """Return the identity of the first place that is configured, and what may send it on to a later one."""
        chosen = self._chosen
        for _, kind in _PLACES if chosen is None else ():
            with contextlib.suppress(NotConfiguredError):
                chosen = _made(kind)
                break
        uri = os.environ.get("ALIBABA_CLOUD_CREDENTIALS_URI")
        return type(self).__name__, id(self) if chosen is None else chosen.identity(), uri

    def _choose(self, refused: str | None) -> Credentials:
        self._failure.raise_again()
        try:
            return self._first(refused)
        except OssCredentialsError as error:
            self._failure.remember(error)
            raise

    def _first(self, refused: str | None) -> Credentials:
        reasons = []
        for name, kind in _PLACES:
            try:
                source = _made(kind)
                credentials = source(refused)
            except NotConfiguredError as error:
                reasons.append(f"{name}: {error}")
            else:
                self._chosen, self._place = source, name
                return credentials
        raise _nothing(reasons)

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Pickle nothing: each process searches for itself."""
        return type(self), ()


def _nothing(reasons: list[str]) -> OssCredentialsError:
    return OssCredentialsError(f"no credentials: {WAYS}. Tried: {'; '.join(reasons)}")
