"""Access keys from a provider object of an Alibaba Cloud SDK."""

from collections.abc import Hashable
from typing import Any, Self

from osstorchconnector.credentials.source import (
    Credentials,
    CredentialSource,
    refuse_to_pickle_secrets,
    unix_seconds,
)
from osstorchconnector.exceptions import OssCredentialsError


class ProviderCredentials(CredentialSource):
    """Access keys from a provider object of an Alibaba Cloud SDK, or any object like it.

    The provider has a method ``get_credentials`` (``oss2``, ``alibabacloud_oss_v2``) or ``get_credential``
    (``alibabacloud-credentials``). What it returns has attributes ``access_key_id``, ``access_key_secret``,
    ``security_token`` and ``expiration``, or getters ``get_access_key_id()`` and so on. The last two are optional.
    """

    def __init__(self, provider: object) -> None:
        """Hold the provider. It is not called yet, because that may use the network.

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

    def identity(self) -> Hashable:
        """Return the identity of the provider."""
        return type(self).__name__, id(self._provider)

    def __call__(self, refused: str | None = None) -> Credentials:  # noqa: ARG002 - the provider is asked each time
        """Ask the provider.

        Raises:
            OssCredentialsError: The provider failed, or did not return an access key.
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
            expiration = unix_seconds(values[3])
        except ValueError:
            raise OssCredentialsError(
                f"cred_provider of type {name} returned an expiration that is not a time"
            ) from None
        return Credentials(values[0], values[1], token, expiration)

    def __copy__(self) -> Self:
        """Return this object: copies share the provider."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this object: copies share the provider."""
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[object]]:
        """Pickle the provider, but only to start a process.

        Raises:
            OssCredentialsError: No process is being started.
        """
        refuse_to_pickle_secrets("a cred_provider")
        return type(self), (self._provider,)


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _read(found: object, name: str) -> Any:  # noqa: ANN401 - whatever the provider put there
    value = getattr(found, name, None)
    if value is None:
        getter = getattr(found, f"get_{name}", None)
        value = getter() if callable(getter) else None
    return value
