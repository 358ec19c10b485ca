"""How :class:`osstorchconnector.testing.Emulator` changes faults of its server and reads the request log."""

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self, TypedDict
from urllib.parse import urlsplit

from osstorchconnector.exceptions import OssConfigError, OssConnectionError

# The server answers from memory; a loaded machine takes a second for it.
_TIMEOUT_SECONDS: Final = 20.0

Position = int | Literal["before", "middle"]
"""Where in an answer a fault acts: before it, in the middle of its body, or after a number of bytes of the body."""


class FaultRule(TypedDict, total=False):
    """Which requests fail, and how. A field that is left out has no effect. Times are in seconds.

    `operation`, `bucket` and `key` say which requests the rule matches; `nth`, `every`, `probability`, `seed` and
    `times` choose among the matching requests; the other fields say what happens to them.
    """

    operation: str | Sequence[str]
    """Names of operations, as in the OSS API reference, such as ``"GetObject"``."""
    bucket: str
    """Pattern of the bucket: ``*`` stands for any characters, ``?`` for one."""
    key: str
    """Pattern of the key. A request without a key, such as a listing, does not match."""

    nth: int | Sequence[int]
    """The numbers of the matching requests to act on, counted from 1."""
    every: int
    """Act on every n-th request only."""
    probability: float
    """Act on this fraction of the requests. It chooses the same requests in every run, in any order."""
    seed: int
    """Seed of all random choices of the rule."""
    times: int
    """Act on at most this number of requests."""

    delay: float | Mapping[str, float | Sequence[float]]
    """Hold the answer back: seconds, or ``{"uniform": [least, most]}``, ``{"normal": [mean, deviation]}``,
    ``{"exponential": mean}`` or ``{"lognormal": [median, deviation of the logarithm]}``."""
    bandwidth: float
    """Bytes per second of each single request, in both directions."""
    shared_bandwidth: float
    """Bytes per second of all requests of the rule together, in both directions."""
    error: str
    """Refuse the request with this code, such as ``"InternalError"``."""
    status: int
    """Status of the refusal, if it differs from the status that OSS gives with the code."""
    throttle: float
    """Refuse with 503, and tell the client in ``x-oss-qos-delay-time`` to wait this number of seconds."""
    expired_token: bool
    """Refuse the request as if its security token had expired."""
    clock_skew: float
    """Check the request with a clock that is this number of seconds ahead, and answer with that clock's ``Date``."""
    reset: Position
    """Reset the connection at this position."""
    truncate: Position
    """Close the connection at this position, although ``Content-Length`` announced the whole body."""
    stall: Position
    """Stop sending at this position, and leave the connection open."""
    lose_reply: bool
    """Execute the request, but reset the connection instead of answering."""
    flip: int | Literal["middle"]
    """Change one bit of the body at this position; the checksum in the header stays right."""
    wrong_crc: bool
    """Change the CRC-64 in the header; the body stays right."""


@dataclass(frozen=True, kw_only=True)
class RecordedRequest:
    """A request that the server received.

    Attributes:
        method: HTTP method.
        operation: Name of the operation, as in the OSS API reference; None if it was not clear.
        bucket: Bucket of the request.
        key: Key of the request.
        range: The header ``Range`` as sent.
        status: Status of the answer, also if a fault lost the answer; 0 if a fault ended the request before it.
        error_code: Error code of the answer.
        response_bytes: Announced size of the answer's body.
        request_id: Identifier of the request.
        concurrency: Number of requests in flight when this one arrived, this one included.
        faults: The numbers of the faults that acted on it.
    """

    method: str
    operation: str | None
    bucket: str | None
    key: str | None
    range: str | None
    status: int
    error_code: str | None
    response_bytes: int
    request_id: str
    concurrency: int
    faults: tuple[int, ...]


class Fault:
    """A fault of a running server. It acts until it is removed, or until its ``with`` block ends."""

    def __init__(self, admin: "Admin", number: int) -> None:
        """Refer to a fault of the server."""
        self._admin = admin
        self._number = number

    @property
    def number(self) -> int:
        """Its number in :attr:`RecordedRequest.faults`."""
        return self._number

    @property
    def met(self) -> int:
        """How many requests matched its operation, bucket and key; 0 after it was removed."""
        return self._count("met")

    @property
    def acted(self) -> int:
        """How many requests it acted on; 0 after it was removed."""
        return self._count("acted")

    def remove(self) -> None:
        """Stop acting on requests. Removing it again does nothing."""
        self._admin.call("DELETE", f"faults/{self._number}", missing_ok=True)

    def __enter__(self) -> Self:
        """Return the fault."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove it."""
        self.remove()

    def _count(self, name: str) -> int:
        for status in self._admin.call("GET", "faults"):
            if status["id"] == self._number:
                return int(status[name])
        return 0


class Admin:
    """The part of a server that only a holder of its token may use."""

    def __init__(self, endpoint: str, token: str, ca_file: str | None) -> None:
        """Refer to a running server; `ca_file` holds the certificates to trust if it uses TLS."""
        parts = urlsplit(endpoint)
        self._address = (parts.hostname or "", parts.port)
        self._token = token
        self._context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None

    def add_faults(self, rules: Sequence[FaultRule]) -> list[Fault]:
        """Add faults: all of them, or none if a rule is wrong."""
        return [Fault(self, number) for number in self.call("POST", "faults", rules)]

    def requests(self) -> list[RecordedRequest]:
        """Return the request log, the oldest request first."""
        found = self.call("GET", "requests")["requests"]
        return [RecordedRequest(**{**logged, "faults": tuple(logged["faults"])}) for logged in found]

    def peak_concurrency(self) -> int:
        """Return the largest number of requests in flight at the same time."""
        return int(self.call("GET", "requests")["peak_concurrency"])

    def clear_requests(self) -> None:
        """Clear the request log."""
        self.call("DELETE", "requests")

    def call(self, method: str, path: str, content: object = None, *, missing_ok: bool = False) -> Any:  # noqa: ANN401
        """Send one request and return the content of its answer."""
        # A connection for each request, because a forked child must not share one with its parent.
        connection = self._connect()
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, f"/-/admin/{path}", body, {"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise OssConnectionError(f"the emulator does not answer: {error}") from error
        finally:
            connection.close()
        if response.status == http.client.NOT_FOUND and missing_ok:
            return None
        answer: Any = json.loads(text) if text else None
        if response.status >= http.client.BAD_REQUEST:
            raise OssConfigError(str(answer["error"]))
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._address
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=self._context)
