"""Access keys of the RAM role of an ECS instance."""

import os
from typing import Final
from urllib.parse import quote

from osstorchconnector.credentials.refreshed import RefreshedCredentials
from osstorchconnector.credentials.request import StatusError, UnreachableError, fetch, key_in
from osstorchconnector.credentials.source import Credentials, NotConfiguredError
from osstorchconnector.exceptions import OssCredentialsError

# https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
METADATA_ENDPOINT: Final = "http://100.100.100.200"
_KEYS: Final = "/latest/meta-data/ram/security-credentials/"

# The service is on the host of the machine: if an answer takes longer, this is not an ECS instance.
_TIMEOUT: Final = 1.0
_ATTEMPTS: Final = 2
# Long enough for one refresh. Each refresh fetches a token, which is one more request every few hours.
_TOKEN_SECONDS: Final = 60
_NOT_FOUND: Final = 404
# A metadata service without tokens answers the request for one with these.
_WITHOUT_TOKENS: Final = {400, 403, 404, 405}

_DISABLED: Final = "ALIBABA_CLOUD_ECS_METADATA_DISABLED"
_V1_DISABLED: Final = "ALIBABA_CLOUD_IMDSV1_DISABLED"
_ROLE: Final = "ALIBABA_CLOUD_ECS_METADATA"


class EcsRoleCredentials(RefreshedCredentials):
    """Temporary access keys of the RAM role that is attached to this ECS instance.

    They come from the instance's metadata service, in its hardened mode (with a token) if it has that mode.
    """

    def __init__(self, role_name: str = "", endpoint: str = "") -> None:
        """Describe the service. The network is not used.

        Args:
            role_name: The role. Default: ``ALIBABA_CLOUD_ECS_METADATA`` in the environment, else the attached role.
            endpoint: Address of the metadata service. Default: ``http://100.100.100.200``.
        """
        super().__init__(role_name, endpoint)
        self._role_name = role_name
        self._endpoint = endpoint or METADATA_ENDPOINT

    @classmethod
    def from_environment(cls) -> "EcsRoleCredentials":
        """Return a source unless the environment forbids it.

        Raises:
            NotConfiguredError: ``ALIBABA_CLOUD_ECS_METADATA_DISABLED`` is ``true``.
        """
        if is_true(_DISABLED):
            raise NotConfiguredError(f"{_DISABLED} is true")
        return cls()

    def fetch(self, refused: str | None) -> Credentials:  # noqa: ARG002 - the service renews keys itself
        """Ask the metadata service.

        Raises:
            OssCredentialsError: It returned no key.
        """
        headers = self._token()
        role = self._role_name or os.environ.get(_ROLE) or self._attached_role(headers)
        what = f"ECS RAM role {role!r}"
        try:
            return key_in(self._get(_KEYS + quote(role, safe=""), what, headers), what=what)
        except StatusError as error:
            if error.http_status == _NOT_FOUND:
                raise OssCredentialsError(f"{what} is not attached to this instance") from None
            raise

    def _token(self) -> dict[str, str]:
        what = "ECS metadata service"
        try:
            token = fetch(
                f"{self._endpoint}/latest/api/token",
                what=what,
                timeout=_TIMEOUT,
                attempts=_ATTEMPTS,
                method="PUT",
                headers={"X-aliyun-ecs-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)},
            )
        except UnreachableError as error:
            raise NotConfiguredError(f"{error}: this is not an ECS instance, or its metadata service is off") from None
        except StatusError as error:
            if error.http_status not in _WITHOUT_TOKENS or is_true(_V1_DISABLED):
                raise
            return {}
        return {"X-aliyun-ecs-metadata-token": token.decode("latin-1").strip()}

    def _attached_role(self, headers: dict[str, str]) -> str:
        what = "ECS RAM role"
        try:
            role = self._get(_KEYS, what, headers).decode("utf-8", "replace").strip()
        except StatusError as error:
            if error.http_status != _NOT_FOUND:
                raise
            role = ""
        if not role:
            raise NotConfiguredError("no RAM role is attached to this ECS instance")
        return role

    def _get(self, path: str, what: str, headers: dict[str, str]) -> bytes:
        return fetch(self._endpoint + path, what=what, timeout=_TIMEOUT, attempts=_ATTEMPTS, headers=headers)


def is_true(variable: str) -> bool:
    """Return whether a variable of the environment is ``true``, in any case."""
    return os.environ.get(variable, "").lower() == "true"
