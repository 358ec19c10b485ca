"""The HTTP proxy that requests go through: from the configuration, else from the environment."""

import ipaddress
import logging
import os
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from osstorchconnector.credentials.shield import shielded
from osstorchconnector.credentials.source import refuse_to_pickle_secrets
from osstorchconnector.exceptions import OssConfigError

# Addresses that answer only to machines of the cloud: https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
_METADATA_HOSTS: Final = frozenset({"100.100.100.200", "169.254.169.254"})
_DEFAULT_PORT: Final = 80
_EXAMPLE: Final = "'http://proxy.example:3128'"

_logger: Final = logging.getLogger(__name__)

# What the log has said, by process.
_logged: Final[set[tuple[int, str]]] = set()

# The setting that names a proxy, for messages.
SETTING: Final = "OssConfig.proxy"

# A domain, with or without a port, as an entry of NO_PROXY. Underscores are no part of host names, but of some names.
_DOMAIN: Final = re.compile(r"\*?\.?[\w-]+(\.[\w-]+)*\.?(:[0-9]+)?")
_NETWORK_LENGTH: Final = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """A proxy, as the native client takes it.

    Attributes:
        host: Its name or address, without brackets.
        port: Its port.
        user: User name, or None.
        password: The password, a secret.
        without: Hosts that are reached without it, as ``NO_PROXY`` names them.
        origin: Name of the setting or variable that names it, for messages.
        way_around: How a host is reached without it, for messages.
    """

    host: str
    port: int
    user: str | None
    password: str
    without: tuple[str, ...]
    origin: str
    way_around: str

    def __repr__(self) -> str:
        """Return host and port."""
        return f"Proxy({self.host}:{self.port})"


class ProxySetting:
    """Which proxy a client uses. Each process looks into its own environment, so no secret of it is pickled."""

    __slots__ = ("_url",)

    def __init__(self, url: str | None) -> None:
        """Hold the value of ``OssConfig.proxy``."""
        self._url = url

    # The frames hold the password.
    @shielded
    def proxy_for(self, endpoint: str) -> Proxy | None:
        """Return the proxy for an endpoint, as :func:`normalize_endpoint` returns it, or None.

        Raises:
            OssConfigError: The setting or the variable names no HTTP proxy.
        """
        if self._url is not None:
            return parse_proxy(self._url, SETTING, ()) if self._url else None
        parts = urlsplit(endpoint)
        if _is_near(parts.hostname or ""):
            return None
        name, url = _from_environment(parts.scheme)
        if not url:
            return None
        # Programs differ in which of the two separate the entries.
        without = tuple(_variable("no_proxy")[1].replace(",", " ").split())
        return parse_proxy(url, f"{name} in the environment", without)

    def __repr__(self) -> str:
        """Return the class, without its content."""
        return f"{type(self).__name__}(...)"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the URL; one with a password only to start a process.

        Raises:
            OssCredentialsError: There is a password and no process is being started.
        """
        if self._url is not None and "@" in self._url:
            refuse_to_pickle_secrets("the password in OssConfig.proxy")
        return type(self), (self._url,)


def parse_proxy(url: str, origin: str, without: tuple[str, ...]) -> Proxy:
    """Return the proxy that a URL names.

    Args:
        url: ``[http://][USER:PASSWORD@]HOST[:PORT]``.
        origin: Name of the setting or variable, for messages, which never quote a password.
        without: Hosts that are reached without it.

    Raises:
        OssConfigError: It is not a URL of an HTTP proxy.
    """
    shown = shown_proxy(url)
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() != "http":
        raise OssConfigError(
            f"{origin} is {shown!r}: only HTTP proxies are supported, such as {_EXAMPLE}; OssConfig(proxy='') uses none"
        )
    try:
        parts = urlsplit(f"//{rest if separator else url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    else:
        if parts.path not in {"", "/"} or parts.query or parts.fragment or any(character <= " " for character in url):
            host = None
    if not host or port == 0:
        raise OssConfigError(f"{origin} is {shown!r}, which is no proxy: a URL such as {_EXAMPLE} is needed")
    user = None if parts.username is None else unquote(parts.username)
    way_around = "set OssConfig(proxy='')" if origin == SETTING else "name the host in NO_PROXY"
    return Proxy(host, port or _DEFAULT_PORT, user, unquote(parts.password or ""), without, origin, way_around)


def log_proxy(endpoint: str, proxy: Proxy) -> None:
    """Say in the log which proxy is used, and which entries of ``NO_PROXY`` have no effect: once in each process."""
    for entry in filter(_names_nothing, proxy.without):
        _log_once(
            logging.WARNING,
            f"the entry {entry!r} of NO_PROXY can match no host: write a domain, which stands for everything below it "
            "too, an address, a network such as '10.0.0.0/8', or '*'",
        )
    _log_once(logging.INFO, f"requests to {endpoint} go through the proxy {proxy.host}:{proxy.port} of {proxy.origin}")


def _log_once(level: int, text: str) -> None:
    # A forked process has the entries of its parent.
    line = os.getpid(), text
    if line not in _logged and _logger.isEnabledFor(level):
        _logged.add(line)
        _logger.log(level, "%s", text)


def shown_proxy(url: str) -> str:
    """Return a proxy's URL for messages: without user name and password."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{'***@' if '@' in rest else ''}{rest.rpartition('@')[2]}"


def _from_environment(scheme: str) -> tuple[str, str]:
    for variable in (f"{scheme}_proxy", "all_proxy"):
        name, url = _variable(variable)
        # A web server passes a header "Proxy" of its client to a CGI program in this variable.
        if url and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            return name, url
    return "", ""


def _variable(name: str) -> tuple[str, str]:
    """Return the name and the value of a variable. Lower case wins, as in curl and in Python's own library."""
    if name in os.environ:
        return name, os.environ[name]
    return name.upper(), os.environ.get(name.upper(), "")


def _names_nothing(entry: str) -> bool:
    """Return whether an entry of NO_PROXY can match no host."""
    if entry == "*" or _DOMAIN.fullmatch(entry):
        return False
    address, slash, length = entry.partition("/")
    if slash and not _NETWORK_LENGTH.fullmatch(length):
        return True
    if entry.startswith("["):
        address, _, port = entry[1:].partition("]")
        if port and not _NETWORK_LENGTH.fullmatch(port.removeprefix(":")):
            return True
    try:
        ipaddress.ip_network(f"{address}{slash}{length}", strict=False)
    except ValueError:
        return True
    return False


def _is_near(host: str) -> bool:
    """Return whether only this machine or this network reaches a host: a variable must not send its traffic away."""
    if host == "localhost" or host in _METADATA_HOSTS or host.partition(".")[0].endswith("-internal"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
