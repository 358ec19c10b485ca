"""Access keys from where the other Alibaba Cloud SDKs look for them."""

from collections.abc import Callable
from typing import Final, Self

from osstorchconnector.credentials.ecs import EcsRoleCredentials
from osstorchconnector.credentials.environment import EnvironmentCredentials
from osstorchconnector.credentials.profile import CliProfileCredentials, IniProfileCredentials
from osstorchconnector.credentials.source import (
    Credentials,
    CredentialSource,
    NotConfiguredError,
    ProcessLock,
    RecentFailure,
)
from osstorchconnector.credentials.sts import OidcRoleCredentials
from osstorchconnector.credentials.uri import UriCredentials
from osstorchconnector.exceptions import OssCredentialsError

_WAYS: Final = (
    "give cred_path (a JSON file with AccessKeyId and AccessKeySecret), cred_provider, "
    "OssConfig(access_key_id=..., access_key_secret=...) or OssConfig(anonymous=True), "
    "or set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
)


def _environment() -> EnvironmentCredentials:
    source = EnvironmentCredentials()
    source()
    return source


# The order of the other Alibaba Cloud SDKs. None of these uses the network.
_PLACES: Final[tuple[tuple[str, Callable[[], CredentialSource]], ...]] = (
    ("environment", _environment),
    ("OIDC role", OidcRoleCredentials.from_environment),
    ("profile of the aliyun CLI", CliProfileCredentials.from_environment),
    ("INI profile", IniProfileCredentials.from_environment),
    ("ECS RAM role", EcsRoleCredentials.from_environment),
    ("credentials URI", UriCredentials.from_environment),
)


class DefaultCredentials(CredentialSource):
    """Access keys from the first place that is configured.

    1. The environment: ``OSS_ACCESS_KEY_ID`` and ``OSS_ACCESS_KEY_SECRET``, else ``ALIBABA_CLOUD_ACCESS_KEY_ID`` and
       ``ALIBABA_CLOUD_ACCESS_KEY_SECRET``.
    2. An OIDC role (RRSA), where ``ALIBABA_CLOUD_ROLE_ARN``, ``ALIBABA_CLOUD_OIDC_PROVIDER_ARN`` and
       ``ALIBABA_CLOUD_OIDC_TOKEN_FILE`` are set.
    3. The current profile of the ``aliyun`` command line tool.
    4. An INI profile.
    5. The RAM role of this ECS instance.
    6. The address in ``ALIBABA_CLOUD_CREDENTIALS_URI``.

    The place that gave the first key is kept. A place that is configured and fails raises: the next one could be
    another identity.
    """

    def __init__(self) -> None:
        """Look nowhere yet."""
        self._chosen: CredentialSource | None = None
        self._lock = ProcessLock()
        self._failure = RecentFailure()

    def check(self) -> None:
        """Look as far as that needs no network.

        Raises:
            OssCredentialsError: Nothing is configured, or what is configured is malformed.
        """
        reasons = []
        for name, make in _PLACES:
            try:
                make()
            except NotConfiguredError as error:
                reasons.append(f"{name}: {error}")
            else:
                return
        raise _nothing(reasons)

    def __call__(self, refused: str | None = None) -> Credentials:
        """Return the access key to use now.

        Raises:
            OssCredentialsError: Nothing is configured, with what was tried; or what is configured failed.
        """
        chosen = self._chosen
        if chosen is not None:
            return chosen(refused)
        with self._lock:
            chosen = self._chosen
            return chosen(refused) if chosen is not None else self._choose(refused)

    def _choose(self, refused: str | None) -> Credentials:
        self._failure.tell()
        try:
            return self._first(refused)
        except OssCredentialsError as error:
            self._failure.remember(error)
            raise

    def _first(self, refused: str | None) -> Credentials:
        reasons = []
        for name, make in _PLACES:
            try:
                source = make()
                credentials = source(refused)
            except NotConfiguredError as error:
                reasons.append(f"{name}: {error}")
            else:
                self._chosen = source
                return credentials
        raise _nothing(reasons)

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Travel as nothing: each process looks for itself."""
        return type(self), ()


def _nothing(reasons: list[str]) -> OssCredentialsError:
    return OssCredentialsError(f"no credentials: {_WAYS}. Tried: {'; '.join(reasons)}")
