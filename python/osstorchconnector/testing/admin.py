"""What :class:`osstorchconnector.testing.Emulator` asks of the server it started: faults, and what was requested."""

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self, TypedDict
from urllib.parse import urlsplit

from osstorchconnector.exceptions import OssConfigError, OssConnectionError

# An answer is made of what is in memory; a loaded machine takes a second for it.
_TIMEOUT_SECONDS: Final = 20.0

Position = int | Literal["before", "middle"]
"""Where in an answer a fault acts: before it, in the middle of its body, or after a number of bytes of the body."""


class FaultRule(TypedDict, total=False):
    """Which requests fail, and how. What is left out is not asked and not done; times are in seconds.

    The first four say which requests the rule is about; the next four choose among those.
    """

    operation: str | Sequence[str]
    """Operations, by their names in the OSS API reference, such as ``"GetObject"``."""
    bucket: str
    """Pattern of the bucket: ``*`` stands for any characters, ``?`` for one."""
    key: str
    """Pattern of the key. A request without a key, such as a listing, does not fit."""

    nth: int | Sequence[int]
    """Which of the requests, counted from 1."""
    every: int
    """Only each so manyth request."""
    probability: float
    """Only this fraction of the requests; the same ones in every run, whatever order they come in."""
    seed: int
    """Seed of everything random in the rule."""
    times: int
    """Act on at most so many requests."""

    delay: float | Mapping[str, float | Sequence[float]]
    """Hold the answer back: seconds, or ``{"uniform": [least, most]}``, ``{"normal": [mean, deviation]}``,
    ``{"exponential": mean}`` or ``{"lognormal": [median, deviation of the logarithm]}``."""
    bandwidth: float
    """Bytes per second of each request by itself, in both directions."""
    shared_bandwidth: float
    """Bytes per second of all requests of the rule together, in both directions."""
    error: str
    """Refuse with this code, such as ``"InternalError"``."""
    status: int
    """Status of the refusal, where it is not the one that OSS gives with the code."""
    throttle: float
    """Refuse with 503 and say in ``x-oss-qos-delay-time`` that so many seconds should pass."""
    expired_token: bool
    """Refuse as if the security token had expired."""
    clock_skew: float
    """Judge the request by a clock so many seconds ahead, and answer with its ``Date``."""
    reset: Position
    """Reset the connection there."""
    truncate: Position
    """Close the connection there, though ``Content-Length`` announced the whole body."""
    stall: Position
    """Send nothing more from there on, and leave the connection open."""
    lose_reply: bool
    """Carry the request out, and reset the connection instead of answering."""
    flip: int | Literal["middle"]
    """Change one bit of the body there, and leave the checksum in the header right."""
    wrong_crc: bool
    """Change the CRC64 in the header, and leave the body right."""


@dataclass(frozen=True, kw_only=True)
class RecordedRequest:
    """A request that the server got.

    Attributes:
        method: Method on the wire.
        operation: What was asked for, by its name in the OSS API reference; None where that was not clear.
        bucket: Bucket addressed.
        key: Key addressed.
        range: The header ``Range`` as sent.
        status: Status of the answer, also where a fault lost it; 0 where a fault ended the request before that.
        error_code: Error code of the answer.
        response_bytes: Size of the answer's body as announced.
        request_id: Identifier of the request.
        concurrency: How many requests were in flight when this one came, with itself.
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
    """A fault of a running server. It acts until it is removed, or until the ``with`` block it heads ends."""

    def __init__(self, admin: "Admin", number: int) -> None:
        """Refer to a fault that was added."""
        self._admin = admin
        self._number = number

    @property
    def number(self) -> int:
        """What :attr:`RecordedRequest.faults` calls it."""
        return self._number

    @property
    def met(self) -> int:
        """How many requests had the operation, bucket and key; 0 once it is removed."""
        return self._count("met")

    @property
    def acted(self) -> int:
        """How many requests it acted on; 0 once it is removed."""
        return self._count("acted")

    def remove(self) -> None:
        """Let the following requests alone. Removing it again does nothing."""
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
    """The part of a server that its own token opens."""

    def __init__(self, endpoint: str, token: str, ca_file: str | None) -> None:
        """Refer to a running server; `ca_file` has the certificates to trust where it speaks TLS."""
        parts = urlsplit(endpoint)
        self._address = (parts.hostname or "", parts.port)
        self._token = token
        self._context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None

    def add_faults(self, rules: Sequence[FaultRule]) -> list[Fault]:
        """Add faults, all or none."""
        return [Fault(self, number) for number in self.call("POST", "faults", rules)]

    def requests(self) -> list[RecordedRequest]:
        """Return what the server remembers, oldest first."""
        found = self.call("GET", "requests")["requests"]
        return [RecordedRequest(**{**record, "faults": tuple(record["faults"])}) for record in found]

    def peak_concurrency(self) -> int:
        """Return the most requests in flight at once."""
        return int(self.call("GET", "requests")["peak_concurrency"])

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self.call("DELETE", "requests")

    def call(self, method: str, path: str, content: object = None, *, missing_ok: bool = False) -> Any:  # noqa: ANN401
        """Send one request and return what its answer says."""
        # A connection for each: a forked child must not share one with its parent.
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
