"""An access key given in the program."""

from collections.abc import Hashable
from typing import Any, Self

from osstorchconnector.credentials.source import Credentials, CredentialSource, refuse_to_pickle_secrets


class ExplicitCredentials(CredentialSource):
    """An access key given in the program."""

    def __init__(self, access_key_id: str, access_key_secret: str, security_token: str | None = None) -> None:
        """Hold the key."""
        self._credentials = Credentials(access_key_id, access_key_secret, security_token)

    def __call__(self, refused: str | None = None) -> Credentials:  # noqa: ARG002 - there is no other key
        """Return the key."""
        return self._credentials

    def identity(self) -> Hashable:
        """Return the key."""
        return type(self).__name__, *self._credentials

    def __copy__(self) -> Self:
        """Return this object: it does not change."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this object: it does not change."""
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str | None]]:
        """Pickle the key, but only to start a process.

        Raises:
            OssCredentialsError: No process is being started.
        """
        refuse_to_pickle_secrets("an access key given in OssConfig")
        credentials = self._credentials
        return type(self), (credentials.access_key_id, credentials.access_key_secret, credentials.security_token)
