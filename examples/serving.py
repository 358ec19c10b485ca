"""Serve a model from OSS over HTTP, and change to each new version of it without a restart; no account is needed.

    pip install safetensors numpy
    python examples/serving.py
    curl --data '[1, 2, 3, 4]' http://127.0.0.1:8080/

Without ``--endpoint`` an OSS server runs beside this program, with a made-up model. Versions are folders with numbers:
``MODELS/7/model.safetensors``. A thread looks for a higher number. Until the new version is loaded, the one before
answers. The tensors go from the network into their memory, without a file in between.
"""

import argparse
import json
import sys
import threading
import urllib.request
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from torch import nn

from osstorchconnector import OssClient, OssSafetensor
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "models"


class Model(nn.Module):
    """What is served: a sum with weights."""

    def __init__(self) -> None:
        """Make it, without weights of its own."""
        super().__init__()
        self.layer = nn.Linear(4, 1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        outputs: torch.Tensor = self.layer(inputs)
        return outputs


class Served:
    """The newest version of a model, kept current by a thread."""

    def __init__(self, models: str, connection: ConnectionArguments, seconds: float) -> None:
        """Load the newest version, and look for a newer one from time to time."""
        self._models = models
        self._client = OssClient(**connection)
        self._safetensor = OssSafetensor(**connection)
        self._seconds = seconds
        self._ended = threading.Event()
        newest = self._newest()
        if newest is None:
            sys.exit(f"{models} has no folder with a number and a model.safetensors")
        self.version, self.model = self._load(newest)
        self._thread = threading.Thread(target=self._watch, name="new versions")
        self._thread.start()

    def answer(self, numbers: list[float]) -> dict[str, float]:
        """Run the model."""
        # Both at once: the thread may change them meanwhile.
        version, model = self.version, self.model
        with torch.inference_mode():
            return {"version": version, "answer": float(model(torch.tensor(numbers, dtype=torch.float32)))}

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _newest(self) -> int | None:
        """Return the highest version that is there, if there is one. An object appears when it is complete."""
        names = [item.name for item in self._client.list(self._models) if item.name.endswith("/model.safetensors")]
        versions = [int(name.split("/")[-2]) for name in names if name.split("/")[-2].isdecimal()]
        return max(versions, default=None)

    def _load(self, version: int) -> tuple[int, Model]:
        """Load a version. Nothing is changed if that fails."""
        model = Model().eval()
        model.load_state_dict(self._safetensor.load_file(f"{self._models}{version}/model.safetensors"))
        print(f"serving version {version}", flush=True)
        return version, model

    def _watch(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                newest = self._newest()
                if newest is not None and newest > self.version:
                    self.version, self.model = self._load(newest)
            except RuntimeError as error:
                # OssError is one, and so is what torch raises about tensors of other shapes. The version before is
                # served on, and the next look may succeed.
                print(f"no new version can be loaded: {error}", file=sys.stderr, flush=True)


def handler_of(served: Served) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            try:
                status, answer = 200, json.dumps(served.answer(json.loads(body)))
            except (RuntimeError, TypeError, ValueError) as error:
                status, answer = 400, json.dumps({"error": str(error)})
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
            """Be silent."""

    return Handler


def publish(version: int, weights: list[float], connection: ConnectionArguments) -> None:
    """Upload a version of the made-up model."""
    state = {"layer.weight": torch.tensor([weights])}
    OssSafetensor(**connection).save_file(state, f"oss://{BUCKET}/sum/{version}/model.safetensors")


def ask(address: str, numbers: list[float]) -> str:
    """Send a request; return the answer."""
    with urllib.request.urlopen(urllib.request.Request(address, json.dumps(numbers).encode())) as reply:  # noqa: S310
        answer: bytes = reply.read()
    return answer.decode()


def show(server: ThreadingHTTPServer, served: Served, connection: ConnectionArguments) -> bool:
    """Ask, publish another version, and ask until it answers; return whether it does."""
    address = f"http://127.0.0.1:{server.server_port}/"
    print(ask(address, [1, 2, 3, 4]))
    publish(2, [10, 10, 10, 10], connection)
    waiting = threading.Event()
    for _ in range(600):
        if served.version != 1:
            break
        waiting.wait(0.1)
    answer = ask(address, [1, 2, 3, 4])
    print(answer)
    return answer == json.dumps({"version": 2, "answer": 100.0})


def main() -> int:
    """Serve; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", default=f"oss://{BUCKET}/sum/", help="folders of versions (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="where requests are answered (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="between two looks (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="show a change of versions with the made-up model, and end")
    parser.add_argument("--endpoint", default="", help="OSS endpoint (default: start a server)")
    parser.add_argument("--cred-path", default="", help="JSON file with the access key for --endpoint")
    parser.add_argument("--region", default="", help="region of --endpoint, if its name does not contain it")
    options = parser.parse_args()
    with ExitStack() as stack:
        connection: ConnectionArguments
        if options.endpoint:
            connection = {"endpoint": options.endpoint, "cred_path": options.cred_path, "region": options.region}
        else:
            connection = stack.enter_context(Emulator(buckets=[BUCKET])).connection
            publish(1, [1, 1, 1, 1], connection)
        served = Served(options.models, connection, options.seconds)
        stack.callback(served.close)
        server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", options.port), handler_of(served)))
        thread = threading.Thread(target=server.serve_forever, name="requests")
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        print(f"answering at http://127.0.0.1:{server.server_port}/", flush=True)
        if options.once:
            return 0 if show(server, served, connection) else 1
        try:
            thread.join()
        except KeyboardInterrupt:
            print("ending")
    return 0


if __name__ == "__main__":
    sys.exit(main())
