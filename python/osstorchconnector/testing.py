"""An OSS server for tests and demonstrations, in a process of its own."""

import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Self, TypedDict

from osstorchconnector._client import OssClient
from osstorchconnector._config import OssConfig
from osstorchconnector.exceptions import OssConnectionError, OssTimeoutError

__all__ = ["Connection", "Emulator"]

# A cold start reads the interpreter and the native core from disk; a loaded machine takes a few seconds for it.
_START_SECONDS: Final = 20.0
# The server waits for requests in progress, but not for long; a server that has not ended by then is killed.
_STOP_SECONDS: Final = 5.0


class Connection(TypedDict):
    """The keyword arguments that connect a dataset or client."""

    endpoint: str
    cred_path: str
    region: str


class Emulator:
    """An OSS server in a process of its own, as a context manager.

    ::

        with Emulator(buckets=["images"]) as emulator:
            emulator.client().put("oss://images/a.txt", b"hello")
            dataset = OssIterableDataset.from_prefix("oss://images/", **emulator.connection)

    The server listens on a free port of the loopback interface, with an access key of its own. It ends when the block
    ends, and also when this process dies. A forked child may use it; only the process that started it stops it.

    Attributes:
        endpoint: ``http://127.0.0.1:<port>``, once it is started.
        region: Region ID that signatures must be for.
        access_key_id: The access key it accepts.
        access_key_secret: The secret that belongs to it.
        cred_path: A JSON file with that access key, readable by this user only, once it is started.
    """

    def __init__(
        self,
        *,
        buckets: Iterable[str] = (),
        port: int = 0,
        region: str = "cn-hangzhou",
        root: str | os.PathLike[str] | None = None,
        domain: str | None = None,
        etag: Literal["md5", "fast"] = "md5",
        fsync: bool = False,
        verify_signatures: bool = True,
        access_key_id: str = "",
        access_key_secret: str = "",
    ) -> None:
        """Describe the server; :meth:`start`, or entering the block, starts it.

        Args:
            buckets: Buckets to start with.
            port: Port to listen on. Default: any free one.
            region: Region ID that signatures must be for.
            root: Directory to store objects in; it is kept. Default: memory.
            domain: Host names below it are ``bucket.domain``. Default: path style, since the host is an IP address.
            etag: ``"fast"`` makes ETags without MD5, for measurements.
            fsync: Wait for the disk before a write is answered.
            verify_signatures: Refuse requests whose signature is wrong.
            access_key_id: Access key to accept. Default: a random one.
            access_key_secret: Its secret. Default: a random one.
        """
        self.region = region
        self.access_key_id = access_key_id or f"emulator-{secrets.token_hex(8)}"
        self.access_key_secret = access_key_secret or secrets.token_hex(16)
        self.endpoint = ""
        self.cred_path = ""
        self._arguments = ["--port", str(port), "--region", region, "--etag", etag]
        for bucket in buckets:
            self._arguments += ["--bucket", bucket]
        if root is not None:
            self._arguments += ["--root", os.fspath(root)]
        if domain is not None:
            self._arguments += ["--domain", domain]
        if fsync:
            self._arguments.append("--fsync")
        if not verify_signatures:
            self._arguments.append("--no-verify")
        self._owner = 0
        self._resources: ExitStack | None = None

    @property
    def config(self) -> OssConfig:
        """A configuration with the access key."""
        return OssConfig(access_key_id=self.access_key_id, access_key_secret=self.access_key_secret)

    @property
    def connection(self) -> Connection:
        """The keyword arguments that connect a dataset or client, with the access key in a file."""
        return {"endpoint": self.endpoint, "cred_path": self.cred_path, "region": self.region}

    def client(self) -> OssClient:
        """Return a new client of the server."""
        return OssClient(**self.connection)

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        self.client().create_bucket(name)

    def start(self) -> None:
        """Start the server and wait until it is ready.

        Raises:
            OssConnectionError: It ended; the message says why.
            OssTimeoutError: It was not ready in time.
            RuntimeError: It is running already.
        """
        if self._resources is not None:
            raise RuntimeError("the emulator is running already")
        with ExitStack() as resources:
            directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="osst-emulator-"))
            log = resources.enter_context(Path(directory, "stderr").open("w+b"))
            cred_path = Path(directory, "credentials.json")
            # The directory is private already; the mode is for tools that look at the file alone.
            cred_path.touch(mode=0o600)
            cred_path.write_text(
                json.dumps({"AccessKeyId": self.access_key_id, "AccessKeySecret": self.access_key_secret})
            )
            process = self._spawn(log)
            resources.callback(_end, process)
            self.endpoint = _wait_until_ready(process, log)
            self.cred_path = str(cred_path)
            self._owner = os.getpid()
            self._resources = resources.pop_all()

    def stop(self) -> None:
        """Stop the server and wait for its end. Stopping again, or in a forked child, does nothing."""
        if self._resources is None or self._owner != os.getpid():
            return
        self._resources.close()
        self._resources = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def _spawn(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            # Not as arguments: those are shown to every user of the machine.
            "OSS_ACCESS_KEY_ID": self.access_key_id,
            "OSS_ACCESS_KEY_SECRET": self.access_key_secret,
        }
        command = [sys.executable, "-m", "osstorchconnector.cli", "emulator", "--until-stdin-closes", *self._arguments]
        return subprocess.Popen(  # noqa: S603 - this interpreter with our own module
            command,
            env=environment,
            # The pipe closes when this process ends, however it ends, and then the server ends.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # Ctrl-C in a terminal goes to the whole group: the server must outlive what its client does about it.
            process_group=0,
        )


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: IO[bytes]) -> str:
    output = process.stdout
    if output is None:
        raise RuntimeError("the server's output is not a pipe")
    deadline = time.monotonic() + _START_SECONDS
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(deadline - time.monotonic()):
                raise OssTimeoutError(f"the emulator was not ready within {_START_SECONDS:.0f} seconds")
            received = os.read(output.fileno(), 4096)
            if not received:
                process.wait(_STOP_SECONDS)
                log.seek(0)
                reason = log.read().decode(errors="replace").strip()
                raise OssConnectionError(f"the emulator ended with status {process.returncode}: {reason}")
            line += received
    return line.decode().strip()


def _end(process: "subprocess.Popen[bytes]") -> None:
    # Leaving the block closes both pipes and waits.
    with process:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
