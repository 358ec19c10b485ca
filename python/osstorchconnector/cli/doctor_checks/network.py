"""The way to the server: name, addresses, TCP, TLS, and the clock."""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Final

from osstorchconnector._printable import printable
from osstorchconnector.cli.doctor_checks.finding import Finding, State, failure, ok, warning
from osstorchconnector.cli.doctor_checks.target import Target, internal_twin, public_twin

# A connection inside of a region takes milliseconds, one around the world half a second.
_CONNECT_SECONDS: Final = 1.5
_MOST_ADDRESSES: Final = 8
# https://www.alibabacloud.com/help/en/oss: the service refuses signatures that are 15 minutes off.
_REFUSED_SECONDS: Final = 900
# A header has whole seconds, and a busy machine takes a while to read it.
_OFF_SECONDS: Final = 30
# Between continents.
_FAR_SECONDS: Final = 0.1
# Alibaba Cloud's own addresses for its services, beside the private networks that ipaddress knows.
_CARRIER: Final = ipaddress.ip_network("100.64.0.0/10")

_Address = tuple[int, tuple[str, int]]


class Way:
    """The way to the server of a target.

    Attributes:
        open: Whether requests can be sent; False before that is known.
    """

    def __init__(self, target: Target) -> None:
        """Look at nothing yet."""
        self._target = target
        self.open = False

    def findings(self) -> Iterator[Finding]:
        """Look up the host, connect to its addresses, and ask for the time; yield what was found, as it is found."""
        target = self._target
        proxy = target.proxy
        host, port = target.host, target.port
        through = proxy is not None and not _bypasses(host, port, proxy.without)
        if proxy is not None and through:
            host, port = proxy.host, proxy.port
        addresses, about_name = _look_up(target, host, port)
        yield about_name
        if not addresses:
            return
        nearest, about_tcp = _connect_all(target, addresses, host, port)
        yield about_tcp
        if nearest is None:
            return
        if through:
            yield ok("tls", "neither TLS nor the clock were looked at: the proxy stands between")
            self.open = True
            return
        if target.scheme == "https":
            about_tls = _tls(target, nearest)
            yield about_tls
            if about_tls.state is State.FAILURE:
                return
        answered = _answer(target, nearest)
        self.open = not any(one.name == "scheme" and one.state is State.FAILURE for one in answered)
        yield from answered


def internal_instead(target: Target) -> list[Finding]:
    """Try whether the internal endpoint answers beside the public one."""
    twin = internal_twin(target.endpoint_host)
    if twin is None:
        return []
    try:
        addresses = _resolve(twin, 443)
        with socket.create_connection(addresses[0][1], timeout=1.0):
            remedy = f"use --endpoint {twin}: it is faster, and its traffic costs nothing"
            return [warning("internal endpoint", f"{twin} answers here too", remedy)]
    except OSError:
        return [ok("internal endpoint", f"{twin} does not answer here, so the public one is right")]


def _look_up(target: Target, host: str, port: int) -> tuple[list[_Address], Finding]:
    started = time.perf_counter()
    try:
        addresses = _resolve(host, port)
    except OSError as error:
        remedy = "check the spelling of the endpoint and of the bucket, and this machine's name server"
        return [], failure("name", f"{host} has no address: {error.strerror or error}", remedy)
    took = time.perf_counter() - started
    texts = [address[0] for _, address in addresses]
    public = [text for text in texts if not _is_internal(text)]
    kind = "public" if len(public) == len(texts) else "internal" if not public else "internal and public"
    text = f"{host}: {', '.join(texts)} ({kind}), {took * 1000:.0f} ms"
    values = {"host": host, "addresses": texts, "public": public, "seconds": took}
    if public and target.is_internal and host == target.host:
        remedy = "the name server of this machine is not that of the region's network: use the one of the VPC"
        return addresses, warning("name", text, remedy, **values)
    return addresses, ok("name", text, **values)


def _resolve(host: str, port: int) -> list[_Address]:
    found: list[_Address] = []
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        entry = (int(family), (str(address[0]), port))
        if entry not in found:
            found.append(entry)
    return found


def _is_internal(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    return address.is_private or (address.version == 4 and address in _CARRIER)  # noqa: PLR2004 - IPv4


def _connect_all(
    target: Target, addresses: Sequence[_Address], host: str, port: int
) -> tuple[tuple[str, int] | None, Finding]:
    """Connect to all addresses at the same time; return the one that answered first."""
    tried = addresses[:_MOST_ADDRESSES]
    with ThreadPoolExecutor(len(tried)) as threads:
        results = list(threads.map(_connect, [address for _, address in tried]))
    times = {address: took for (_, address), took in zip(tried, results, strict=True) if isinstance(took, float)}
    errors = [took for took in results if not isinstance(took, float)]
    values = {"seconds": {address[0]: took for address, took in times.items()}, "failed": len(errors)}
    if not times:
        text = f"{host}:{port} cannot be connected to: {errors[0]}"
        return None, failure("tcp", text, _why_unreachable(target, errors[0]), **values)
    nearest = min(times, key=lambda address: times[address])
    text = f"{len(times)} of {len(tried)} addresses answer, the nearest in {times[nearest] * 1000:.1f} ms"
    if errors:
        remedy = f"the others failed ({errors[0]}): ask why, since each new connection may lose time with them"
        return nearest, warning("tcp", text, remedy, **values)
    if times[nearest] > _FAR_SECONDS:
        remedy = "the server is far away: use a bucket in this machine's region, and its -internal endpoint"
        return nearest, warning("tcp", text, remedy, **values)
    return nearest, ok("tcp", text, **values)


def _connect(address: tuple[str, int]) -> float | str:
    started = time.perf_counter()
    try:
        with socket.create_connection(address, timeout=_CONNECT_SECONDS):
            return time.perf_counter() - started
    except TimeoutError:
        return f"no answer within {_CONNECT_SECONDS} seconds"
    except OSError as error:
        return str(error.strerror or error)


def _why_unreachable(target: Target, error: str) -> str:
    if target.is_internal:
        public = public_twin(target.endpoint_host)
        return f"internal endpoints answer only inside of their region: elsewhere, use --endpoint {public}"
    if "refused" in error:
        return "no server listens there: check host and port of the endpoint"
    return "check host and port, and the firewall or the security group between"


def _bypasses(host: str, port: int, without: Sequence[str]) -> bool:
    """Return whether an entry of ``NO_PROXY`` names a host."""
    return any(_names(entry, host, port) for entry in without)


def _names(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        # One of them is a name, or the entry has a port.
        name, _, wanted = entry.rpartition(":") if ":" in entry else (entry, "", "")
    name = name.lstrip("*").lstrip(".").strip("[]").lower()
    return wanted in {"", str(port)} and bool(name) and (host == name or host.endswith(f".{name}"))


def _context(target: Target, *, check: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=target.config.ca_bundle)
    if not check:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _tls(target: Target, address: tuple[str, int]) -> Finding:
    started = time.perf_counter()
    try:
        with (
            socket.create_connection(address, timeout=_CONNECT_SECONDS) as connection,
            _context(target).wrap_socket(connection, server_hostname=target.host) as secure,
        ):
            took = time.perf_counter() - started
            return ok("tls", f"{secure.version()}, {took * 1000:.0f} ms with TCP", seconds=took)
    except ssl.SSLCertVerificationError as error:
        remedy = "name the authority in OssConfig.ca_bundle or SSL_CERT_FILE; a proxy that opens TLS needs that too"
        return failure("tls", f"the certificate of {target.host} is not trusted: {error.verify_message}", remedy)
    except ssl.SSLError as error:
        plain = f"http://{target.endpoint_host}:{target.port}"
        text = f"the server at port {target.port} does not speak TLS: {error.reason or error}"
        return failure("tls", text, f"give the port of HTTPS, or --endpoint {plain}")
    except OSError as error:
        text = f"the server closed the connection before TLS began: {error.strerror or error}"
        return failure("tls", text, "check the port, and the firewall between")


def _speaks_tls(target: Target, address: tuple[str, int]) -> bool:
    try:
        with (
            socket.create_connection(address, timeout=_CONNECT_SECONDS) as connection,
            _context(target, check=False).wrap_socket(connection, server_hostname=target.host),
        ):
            return True
    except OSError:
        return False


def _answer(target: Target, address: tuple[str, int]) -> list[Finding]:
    """Send one request without a signature: its answer has the time of the server."""
    connection: http.client.HTTPConnection
    if target.scheme == "https":
        connection = http.client.HTTPSConnection(
            target.host, target.port, timeout=_CONNECT_SECONDS, context=_context(target)
        )
    else:
        connection = http.client.HTTPConnection(address[0], address[1], timeout=_CONNECT_SECONDS)
    try:
        before = time.time()
        # The name of the default port is left out, as the client does.
        connection.request("GET", "/", headers={"Host": _authority(target)})
        answer = connection.getresponse()
        text = answer.read(4096)
        after = time.time()
    except (OSError, http.client.HTTPException) as error:
        return [_no_answer(target, address, error)]
    finally:
        connection.close()
    if target.scheme == "http" and b"HTTPS port" in text:
        return [_expects_tls(target)]
    found = [_scheme(target)]
    if answer.getheader("x-oss-request-id") is None:
        server = printable(answer.getheader("Server") or "without a name")
        remedy = "check the endpoint: the answer is one of another server, or of a proxy or a page to log in"
        found.append(warning("server", f"the answer has no request id of OSS; the server is {server}", remedy))
    found.append(_clock(answer.getheader("Date"), before, after))
    return found


def _no_answer(target: Target, address: tuple[str, int], error: Exception) -> Finding:
    if target.scheme == "http" and _speaks_tls(target, address):
        return _expects_tls(target)
    text = (
        f"{target.host}:{target.port} takes connections, but does not answer HTTP: {str(error) or type(error).__name__}"
    )
    return failure("scheme", text, "check the port of the endpoint: another kind of server listens there")


def _expects_tls(target: Target) -> Finding:
    text = f"the server at port {target.port} expects TLS, and the endpoint says http"
    port = "" if target.port == 443 else f":{target.port}"  # noqa: PLR2004 - the port of HTTPS
    return failure("scheme", text, f"give --endpoint https://{target.endpoint_host}{port}")


def _authority(target: Target) -> str:
    default = {"http": 80, "https": 443}[target.scheme]
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == default else f"{host}:{target.port}"


def _scheme(target: Target) -> Finding:
    if target.scheme == "https":
        return ok("scheme", "https")
    if target.is_alibaba and not target.is_internal:
        remedy = f"give --endpoint https://{target.endpoint_host}: others on the way can read what is sent"
        return warning("scheme", "http over the public network", remedy)
    return ok("scheme", "http: without TLS, which costs a part of the bandwidth")


def _clock(date: str | None, before: float, after: float) -> Finding:
    try:
        server = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return warning("clock", "not compared: the answer has no Date", "check that the endpoint is one of OSS")
    # The header leaves the fraction of the second out.
    offset = (before + after) / 2 - (server + 0.5)
    text = f"this machine is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the service"
    remedy = "set the clock, for instance with chronyd or ntpd"
    if abs(offset) > _REFUSED_SECONDS:
        text += "; OSS refuses more than 15 minutes. This package follows the clock of the service, others do not"
        return failure("clock", text, remedy, offset=offset)
    if abs(offset) > _OFF_SECONDS:
        return warning("clock", text, remedy, offset=offset)
    return ok("clock", "as the service's, to the second" if abs(offset) <= 1.5 else text, offset=offset)  # noqa: PLR2004
