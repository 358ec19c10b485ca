"""Access keys of a role, from the Security Token Service."""

import base64
import hashlib
import hmac
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from osstorchconnector._json import read_json
from osstorchconnector.credentials.refreshed import RefreshedCredentials
from osstorchconnector.credentials.request import fetch, key_in
from osstorchconnector.credentials.source import Credentials, CredentialSource, NotConfiguredError
from osstorchconnector.exceptions import OssConfigError, OssCredentialsError

# https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerolewithoidc
_VERSION: Final = "2015-04-01"
# The default of the service, and its minimum.
DEFAULT_SECONDS: Final = 3600
_LEAST_SECONDS: Final = 900

# The other Alibaba Cloud SDKs wait as long.
_TIMEOUT: Final = 10.0
_ATTEMPTS: Final = 3
# A person waits for the answer who it is.
_SOON: Final = 2.0

_OIDC: Final = ("ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE")


def sts_endpoint(region: str = "", *, vpc: bool | None = None) -> str:
    """Return the address of the service.

    Args:
        region: Region ID. Default: ``ALIBABA_CLOUD_STS_REGION`` in the environment, else the central service.
        vpc: Whether this machine is inside a VPC. Default: ``ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED``.
    """
    region = region or os.environ.get("ALIBABA_CLOUD_STS_REGION", "")
    if not region:
        return "https://sts.aliyuncs.com"
    if vpc is None:
        vpc = os.environ.get("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "").lower() == "true"
    return f"https://sts{'-vpc' if vpc else ''}.{region}.aliyuncs.com"


class OidcRoleCredentials(RefreshedCredentials):
    """Temporary access keys of a role that trusts an OIDC token: RRSA in a Kubernetes cluster of Alibaba Cloud (ACK).

    The cluster renews the file with the token, so each request reads it again.
    """

    def __init__(
        self,
        role_arn: str,
        oidc_provider_arn: str,
        oidc_token_file: str,
        role_session_name: str = "",
        duration_seconds: int = DEFAULT_SECONDS,
        policy: str = "",
        endpoint: str = "",
    ) -> None:
        """Describe the role. The network is not used.

        Args:
            role_arn: The role.
            oidc_provider_arn: The identity provider that the role trusts.
            oidc_token_file: File with the token.
            role_session_name: Name of the session, for audit. Default: a made-up one.
            duration_seconds: How long a key is valid, at least 900.
            policy: JSON of a policy that restricts the key.
            endpoint: Address of the service, with its scheme. Default: :func:`sts_endpoint`, by the environment.

        Raises:
            OssConfigError: A value is missing or not allowed.
        """
        super().__init__(
            role_arn, oidc_provider_arn, oidc_token_file, role_session_name, duration_seconds, policy, endpoint
        )
        _check("OidcRoleCredentials", duration_seconds, role_arn=role_arn, oidc_provider_arn=oidc_provider_arn)
        _check("OidcRoleCredentials", duration_seconds, oidc_token_file=oidc_token_file)
        self._token_file = oidc_token_file
        self._endpoint = endpoint
        self._parameters = {
            "Action": "AssumeRoleWithOIDC",
            "RoleArn": role_arn,
            "OIDCProviderArn": oidc_provider_arn,
            **_session(role_session_name, duration_seconds, policy),
        }

    @classmethod
    def from_environment(cls) -> "OidcRoleCredentials":
        """Return a source for the role that the environment names, as RRSA sets it in a pod.

        Raises:
            NotConfiguredError: ``ALIBABA_CLOUD_ROLE_ARN``, ``ALIBABA_CLOUD_OIDC_PROVIDER_ARN`` or
                ``ALIBABA_CLOUD_OIDC_TOKEN_FILE`` is not set.
        """
        missing = [name for name in _OIDC if not os.environ.get(name)]
        if missing:
            raise NotConfiguredError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
        role, provider, token_file = (os.environ[name] for name in _OIDC)
        return cls(role, provider, token_file, os.environ.get("ALIBABA_CLOUD_ROLE_SESSION_NAME", ""))

    def fetch(self, refused: str | None) -> Credentials:  # noqa: ARG002 - each request gives a new key
        """Ask the service.

        Raises:
            OssCredentialsError: It returned no key, or the token cannot be read.
        """
        try:
            token = Path(self._token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise OssCredentialsError(
                f"OIDC token file {self._token_file!r} cannot be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise OssCredentialsError(f"OIDC token file {self._token_file!r} is not UTF-8 text") from None
        return _assume({**self._parameters, "OIDCToken": token}, self._endpoint)


class RamRoleCredentials(RefreshedCredentials):
    """Temporary access keys of a role that another access key may assume."""

    def __init__(
        self,
        source: CredentialSource,
        role_arn: str,
        role_session_name: str = "",
        duration_seconds: int = DEFAULT_SECONDS,
        policy: str = "",
        external_id: str = "",
        endpoint: str = "",
    ) -> None:
        """Describe the role. The network is not used.

        Args:
            source: What supplies the access key that assumes the role.
            role_arn: The role.
            role_session_name: Name of the session, for audit. Default: a made-up one.
            duration_seconds: How long a key is valid, at least 900.
            policy: JSON of a policy that restricts the key.
            external_id: The external ID that the role requires.
            endpoint: Address of the service, with its scheme. Default: :func:`sts_endpoint`, by the environment.

        Raises:
            OssConfigError: A value is missing or not allowed.
        """
        super().__init__(source, role_arn, role_session_name, duration_seconds, policy, external_id, endpoint)
        _check("RamRoleCredentials", duration_seconds, role_arn=role_arn)
        self._source = source
        self._endpoint = endpoint
        self._parameters = {
            "Action": "AssumeRole",
            "RoleArn": role_arn,
            **_session(role_session_name, duration_seconds, policy),
        }
        if external_id:
            self._parameters["ExternalId"] = external_id

    def fetch(self, refused: str | None) -> Credentials:  # noqa: ARG002 - each request gives a new key
        """Ask the service.

        Raises:
            OssCredentialsError: It returned no key, or the source has none.
        """
        key = self._source()
        parameters = {**self._parameters, **_signer(key)}
        return _assume(parameters, self._endpoint, key.access_key_secret)


def sign(parameters: Mapping[str, str], secret: str, method: str = "POST") -> str:
    """Return the signature of a request in the RPC style of Alibaba Cloud.

    https://www.alibabacloud.com/help/en/sdk/product-overview/rpc-mechanism
    """
    canonical = "&".join(f"{_encode(name)}={_encode(value)}" for name, value in sorted(parameters.items()))
    text = f"{method}&{_encode('/')}&{_encode(canonical)}"
    return base64.b64encode(hmac.digest(f"{secret}&".encode(), text.encode(), hashlib.sha1)).decode()


def caller_identity(
    key: Credentials, endpoint: str = "", region: str = "", *, vpc: bool | None = None
) -> dict[str, str]:
    """Return who an access key belongs to: ``AccountId``, ``Arn`` and ``IdentityType``.

    Args:
        key: The key.
        endpoint: Address of the service. Default: :func:`sts_endpoint` of the region.
        region: Region ID.
        vpc: Whether this machine is inside a VPC.

    Raises:
        OssCredentialsError: The service did not answer, or refused the key.
    """
    what = "STS GetCallerIdentity"
    sent = {"Action": "GetCallerIdentity", **_signer(key)}
    body = _call(sent, endpoint or sts_endpoint(region, vpc=vpc), key.access_key_secret, what, _SOON, 1)
    try:
        answer = read_json(body)
    except ValueError:
        answer = None
    names = ("AccountId", "Arn", "IdentityType")
    if not isinstance(answer, dict) or not all(isinstance(answer.get(name), str) for name in names):
        raise OssCredentialsError(f"{what}: the answer does not name the caller")
    return {name: answer[name] for name in names}


def _signer(key: Credentials) -> dict[str, str]:
    """Return the parameters of a signed request that say who signs it."""
    parameters = {
        "AccessKeyId": key.access_key_id,
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": uuid.uuid4().hex,
    }
    if key.security_token is not None:
        parameters["SecurityToken"] = key.security_token
    return parameters


def _assume(parameters: dict[str, str], endpoint: str, secret: str | None = None) -> Credentials:
    what = f"STS {parameters['Action']} for role {parameters['RoleArn']!r}"
    body = _call(parameters, endpoint or sts_endpoint(), secret, what, _TIMEOUT, _ATTEMPTS)
    return key_in(body, what=what, within="Credentials")


def _call(
    parameters: dict[str, str], endpoint: str, secret: str | None, what: str, timeout: float, attempts: int
) -> bytes:
    sent = {
        **parameters,
        "Version": _VERSION,
        "Format": "JSON",
        "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if secret is not None:
        sent["Signature"] = sign(sent, secret)
    # The token is a secret, so it is in the body: a proxy writes addresses to its log.
    return fetch(
        f"{endpoint}/",
        what=what,
        timeout=timeout,
        attempts=attempts,
        method="POST",
        form=urlencode(sent).encode(),
        proxies=True,
    )


def _session(name: str, seconds: int, policy: str) -> dict[str, str]:
    session = {
        "RoleSessionName": name or f"osstorchconnector-{uuid.uuid4().hex[:12]}",
        "DurationSeconds": str(seconds),
    }
    return {**session, "Policy": policy} if policy else session


def _check(owner: str, seconds: int, **needed: str) -> None:
    for name, value in needed.items():
        if not isinstance(value, str) or not value:
            raise OssConfigError(f"{owner}: {name} is missing")
    if not isinstance(seconds, int) or seconds < _LEAST_SECONDS:
        raise OssConfigError(f"{owner}: duration_seconds must be at least {_LEAST_SECONDS}, not {seconds!r}")


def _encode(text: str) -> str:
    return quote(text, safe="~")
