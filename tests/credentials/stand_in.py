"""A scripted HTTP server on the loopback interface, in the place of a service that issues access keys."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl


@dataclass(frozen=True)
class Asked:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))


Answer = tuple[int, Any]


@dataclass
class StandIn:
    """The requests so far, and the address."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]


@contextmanager
def standing_in(answer: Callable[[Asked], Answer]) -> Iterator[StandIn]:
    """Run a server with given answers: a status, and a text or a value for JSON."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            stand_in.asked.append(asked)
            status, content = answer(asked)
            if status == 0:
                return
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            if status in {301, 302, 307}:
                self.send_header("Location", content)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = handle_any  # noqa: N815 - the names the server calls

        def log_message(self, *_arguments: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()


def key_document(access_key_id: str, secret: str, token: str, seconds: float = 3600) -> dict[str, str]:
    """Return an access key as the services write it."""
    expiration = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "Code": "Success",
        "AccessKeyId": access_key_id,
        "AccessKeySecret": secret,
        "SecurityToken": token,
        "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
