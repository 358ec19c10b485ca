"""The access key in the environment."""

import os
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from osstorchconnector.credentials.source import Credentials, CredentialSource, NotConfiguredError
from osstorchconnector.exceptions import OssCredentialsError

# In this order: the variables of the OSS SDKs, then those of the other Alibaba Cloud SDKs.
_VARIABLES: Final = (
    ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
)


@dataclass(frozen=True, slots=True, repr=False)
class EnvironmentCredentials(CredentialSource):
    """The access key in this process's environment. Its pickle holds nothing of it.

    ``OSS_ACCESS_KEY_ID``, ``OSS_ACCESS_KEY_SECRET`` and ``OSS_SESSION_TOKEN``, else ``ALIBABA_CLOUD_ACCESS_KEY_ID``,
    ``ALIBABA_CLOUD_ACCESS_KEY_SECRET`` and ``ALIBABA_CLOUD_SECURITY_TOKEN``.
    """

    def __call__(self, refused: str | None = None) -> Credentials:  # noqa: ARG002 - the environment is read each time
        """Return the key in the environment as it is now.

        Raises:
            OssCredentialsError: There is no key, or only half of one.
        """
        for id_name, secret_name, token_name in _VARIABLES:
            access_key_id = os.environ.get(id_name)
            access_key_secret = os.environ.get(secret_name)
            if access_key_id and access_key_secret:
                return Credentials(access_key_id, access_key_secret, os.environ.get(token_name) or None)
            if access_key_id or access_key_secret:
                missing = secret_name if access_key_id else id_name
                raise OssCredentialsError(f"the environment has half an access key: {missing} is missing")
        names = " and ".join(id_name for id_name, _, _ in _VARIABLES)
        raise NotConfiguredError(f"{names} are not set")

    def identity(self) -> Hashable:
        """Return the key as it is now."""
        return type(self).__name__, *self()
