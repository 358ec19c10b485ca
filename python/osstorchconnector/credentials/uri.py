"""Access keys of a local service, from its address."""

import os
from typing import Final

from osstorchconnector.credentials.refreshed import RefreshedCredentials
from osstorchconnector.credentials.request import fetch, key_in
from osstorchconnector.credentials.source import Credentials, NotConfiguredError

_VARIABLE: Final = "ALIBABA_CLOUD_CREDENTIALS_URI"
# The other Alibaba Cloud SDKs wait as long.
_TIMEOUT: Final = 5.0
_ATTEMPTS: Final = 3


class UriCredentials(RefreshedCredentials):
    """Temporary access keys that a GET of an address returns, for instance from a sidecar or an agent.

    The answer is JSON: ``{"Code": "Success", "AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration"}``.
    """

    def __init__(self, uri: str) -> None:
        """Describe the service. The network is not used.

        Args:
            uri: The address, ``http`` or ``https``.
        """
        super().__init__(uri)
        self._uri = uri

    @classmethod
    def from_environment(cls) -> "UriCredentials":
        """Return a source for the address in ``ALIBABA_CLOUD_CREDENTIALS_URI``.

        Raises:
            NotConfiguredError: It is not set.
        """
        uri = os.environ.get(_VARIABLE)
        if not uri:
            raise NotConfiguredError(f"{_VARIABLE} is not set")
        return cls(uri)

    def fetch(self, refused: str | None) -> Credentials:  # noqa: ARG002 - the service renews keys itself
        """Ask the service.

        Raises:
            OssCredentialsError: It returned no key.
        """
        what = "credentials URI"
        return key_in(fetch(self._uri, what=what, timeout=_TIMEOUT, attempts=_ATTEMPTS), what=what)
