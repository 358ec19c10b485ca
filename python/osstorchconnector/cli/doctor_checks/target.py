"""The thing that is examined: an endpoint, and perhaps a bucket and a prefix."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from osstorchconnector.connection.config import OssConfig, ResolvedConfig
from osstorchconnector.connection.endpoint import infer_region, normalize_endpoint
from osstorchconnector.connection.proxy import Proxy, ProxySetting
from osstorchconnector.credentials import CredentialSource

if TYPE_CHECKING:
    from osstorchconnector._native import Client

# All checks together have ten seconds. A request must fail before its check is given up, so that its error is shown.
_REQUEST_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 1.5
_PORTS: Final = {"http": 80, "https": 443}


@dataclass
class Target:
    """An endpoint with its configuration.

    Attributes:
        endpoint: ``scheme://host[:port]``.
        region: The region that requests are signed for; empty if it is not known.
        config: The configuration that applies.
        credentials: The source of the access key; None if there is none.
        bucket: The bucket, or empty.
        prefix: What the keys begin with.
    """

    endpoint: str
    region: str
    config: OssConfig
    credentials: CredentialSource | None
    bucket: str = ""
    prefix: str = ""

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return urlsplit(self.endpoint).scheme

    @property
    def endpoint_host(self) -> str:
        """The host in the endpoint."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def host(self) -> str:
        """The host that requests about the bucket connect to."""
        addressing = self.config.addressing
        if addressing is None:
            # An address and `localhost`, which have HTTP as their default scheme, take the bucket into the path.
            local = normalize_endpoint(urlsplit(self.endpoint).netloc).startswith("http:")
            addressing = "path" if local else "virtual_host"
        return (
            f"{self.bucket}.{self.endpoint_host}"
            if self.bucket and addressing == "virtual_host"
            else self.endpoint_host
        )

    @property
    def port(self) -> int:
        """The port."""
        return urlsplit(self.endpoint).port or _PORTS[self.scheme]

    @property
    def is_alibaba(self) -> bool:
        """Whether the endpoint is one of Alibaba Cloud's own."""
        return self.endpoint_host.endswith(".aliyuncs.com")

    @property
    def is_internal(self) -> bool:
        """Whether the endpoint answers only inside of Alibaba Cloud."""
        return self.is_alibaba and "-internal." in self.endpoint_host

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that requests go through."""
        return ProxySetting(self.config.proxy).proxy_for(self.endpoint)

    def client(self, **settings: Any) -> "Client":  # noqa: ANN401 - fields of OssConfig
        """Return a client that gives up soon; `settings` are fields of :class:`OssConfig` that differ."""
        from osstorchconnector.connection.native_client import native_client  # noqa: PLC0415 - it loads slowly

        config = dataclasses.replace(
            self.config,
            connect_timeout=min(self.config.connect_timeout, _CONNECT_SECONDS),
            read_timeout=min(self.config.read_timeout, _REQUEST_SECONDS),
            total_timeout=min(self.config.total_timeout, _REQUEST_SECONDS),
            log_path=None,
            **settings,
        )
        proxy = ProxySetting(config.proxy)
        return native_client(ResolvedConfig(self.endpoint, self.region, config, self.credentials, proxy))


def public_twin(host: str) -> str:
    """Return the public endpoint beside an internal one."""
    return host.replace("-internal.", ".", 1)


def internal_twin(host: str) -> str | None:
    """Return the internal endpoint beside a public one of a region, or None."""
    region = infer_region(f"https://{host}")
    if region is None or host != f"oss-{region}.aliyuncs.com":
        return None
    return f"oss-{region}-internal.aliyuncs.com"
