"""An OSS server for tests and demonstrations, in a process of its own."""

import json
import os
import secrets
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal, Self, TypedDict, Unpack

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.exceptions import OssConnectionError, OssTimeoutError
from osstorchconnector.process.owner import Owner
from osstorchconnector.testing.admin import Admin, Fault, FaultRule, RecordedRequest

__all__ = ["Connection", "ConnectionArguments", "Emulator", "Fault", "FaultRule", "KeyPair", "RecordedRequest"]

# A cold start reads the interpreter and the native module from disk; a loaded machine takes a few seconds for it.
_START_SECONDS: Final = 20.0
# The server waits a short time for its running requests. If it has not ended by then, it is killed.
_STOP_SECONDS: Final = 5.0


class ConnectionArguments(TypedDict):
    """The keyword arguments that connect a dataset or client."""

    endpoint: str
    cred_path: str
    region: str


Connection = ConnectionArguments
"""Deprecated: the old name of :class:`ConnectionArguments`. Its use gives no warning."""


@dataclass(frozen=True)
class KeyPair:
    """An access key that a server accepts.

    Attributes:
        access_key_id: The public part.
        access_key_secret: The secret part.
        security_token: The token of a temporary key, which every request must carry.
        expiration: When the token expires; UTC if it has no time zone. Default: never.
        policy: A policy as RAM writes it, for a user who may do what it allows. Default: everything.
    """

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)
    expiration: datetime | None = None
    policy: Mapping[str, Any] | None = None


class Emulator:
    """An OSS server in a process of its own, as a context manager.

    ::

        with Emulator(buckets=["images"]) as emulator:
            emulator.client().put("oss://images/a.txt", b"hello")
            dataset = OssIterableDataset.from_prefix("oss://images/", **emulator.connection)
            with emulator.fault(operation="GetObject", nth=1, reset="middle"):
                assert [item.read() for item in dataset] == [b"hello"]
            assert [request.key for request in emulator.requests(operation="GetObject")] == ["a.txt", "a.txt"]

    The server listens on a free port of the loopback interface, with an access key of its own. It ends when the block
    ends, and also if this process dies. A forked child may use it, but only the process that started it can stop it.

    Attributes:
        endpoint: ``http://127.0.0.1:<port>``, after the start.
        region: Region ID that requests must be signed for.
        access_key_id: The access key that it accepts, besides ``key_pairs``.
        access_key_secret: The secret that belongs to it.
        cred_path: A JSON file with that access key, which only this user can read, after the start.
        ca_bundle: A PEM file with the certificates to trust, after a start with TLS; otherwise empty.
    """

    def __init__(
        self,
        *,
        buckets: Iterable[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        region: str = "cn-hangzhou",
        root: str | os.PathLike[str] | None = None,
        domain: str | None = None,
        etag: Literal["md5", "fast"] = "md5",
        fsync: bool = False,
        memory_limit: int | None = None,
        import_directory: str | os.PathLike[str] | None = None,
        verify_signatures: bool = True,
        access_key_id: str = "",
        access_key_secret: str = "",
        key_pairs: Iterable[KeyPair] = (),
        restore_seconds: float = 1.0,
        tls: bool | tuple[str | os.PathLike[str], str | os.PathLike[str]] = False,
        faults: Iterable[FaultRule] = (),
        allow_public_access: bool = False,
        requests_per_second: int | None = None,
        quota: int | None = None,
        profile: Literal["35ms", "throttled", "flaky", "wan"] | None = None,
    ) -> None:
        """Describe the server; :meth:`start`, or entering the block, starts it.

        Args:
            buckets: Buckets to start with.
            host: Address to listen on. Default: the loopback interface only.
            port: Port to listen on. Default: any free one.
            region: Region ID that requests must be signed for.
            root: Directory to store objects in; it is not deleted at the end. Default: memory.
            domain: Take host names ``bucket.domain`` for buckets. Default: path style, since the host is an IP address.
            etag: ``"fast"`` makes ETags without MD5, for measurements.
            fsync: Answer a write only after it is on the disk.
            memory_limit: Upper limit of the bytes of content in memory. Default: no limit.
            import_directory: Directory whose files become objects of the one bucket; a file's path below it is its key.
            verify_signatures: Refuse requests whose signature is wrong.
            access_key_id: Access key to accept. Default: a random one.
            access_key_secret: Its secret. Default: a random one.
            key_pairs: More access keys to accept, temporary ones among them.
            restore_seconds: Time that restoring an archived object takes.
            tls: Serve HTTPS. True makes a certificate for ``localhost``, the loopback addresses, and the domain with
                its subdomains. Or give the PEM files of a certificate and its private key.
            faults: Faults from the start on. :meth:`fault` adds more.
            allow_public_access: Let new buckets be opened to everyone. Without it they block public access, as those of
                OSS do since October 2025.
            requests_per_second: Most requests a second that are answered; the others are refused with 503. Default: no
                limit.
            quota: Most bytes that the objects of one bucket may have together. Default: no limit.
            profile: A network or a service to imitate. ``"35ms"``: to the first byte. ``"throttled"``: one request in
                five is refused with 503. ``"flaky"``: some answers are lost, broken off, damaged or refused. ``"wan"``:
                about 180 ms to the first byte, 2 MB/s for each request. Default: none.
        """
        self.region = region
        self.access_key_id = access_key_id or f"emulator-{secrets.token_hex(8)}"
        self.access_key_secret = access_key_secret or secrets.token_hex(16)
        self.endpoint = ""
        self.cred_path = ""
        self.ca_bundle = ""
        self._key_pairs = tuple(key_pairs)
        self._tls = tls is not False
        certificate, key = tls if isinstance(tls, tuple) else (None, None)
        self._arguments = _command_line(
            {
                "--host": host,
                "--port": port,
                "--region": region,
                "--etag": etag,
                "--restore-seconds": restore_seconds,
                "--tls-certificate": certificate,
                "--tls-key": key,
                "--root": root,
                "--domain": domain,
                "--memory-limit": memory_limit,
                "--import": import_directory,
                "--qps": requests_per_second,
                "--quota": quota,
                "--profile": profile,
            },
            {
                "--tls": tls is True,
                "--fsync": fsync,
                "--no-verify": not verify_signatures,
                "--allow-public-access": allow_public_access,
            },
        )
        for bucket in buckets:
            self._arguments += ["--bucket", bucket]
        self._faults = list(faults)
        # It gives this process alone access, so each server gets a new one, and it is never shown.
        self._admin_token = secrets.token_urlsafe(32)
        self._admin: Admin | None = None
        self._owner = Owner()
        self._resources: ExitStack | None = None

    @property
    def config(self) -> OssConfig:
        """A configuration with the access key, and with the certificates to trust if the server uses TLS."""
        if not self.ca_bundle:
            return OssConfig(access_key_id=self.access_key_id, access_key_secret=self.access_key_secret)
        return OssConfig(
            access_key_id=self.access_key_id, access_key_secret=self.access_key_secret, ca_bundle=self.ca_bundle
        )

    @property
    def connection(self) -> ConnectionArguments:
        """The keyword arguments that connect a dataset or client, with the access key in a file.

        If the server uses TLS, add ``config=OssConfig(ca_bundle=emulator.ca_bundle)``, so that the client trusts it.
        """
        return {"endpoint": self.endpoint, "cred_path": self.cred_path, "region": self.region}

    def client(self) -> OssClient:
        """Return a new client of the server."""
        config = OssConfig(ca_bundle=self.ca_bundle) if self.ca_bundle else None
        return OssClient(**self.connection, config=config)

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        self.client().create_bucket(name)

    def fault(self, **rule: Unpack[FaultRule]) -> Fault:
        """Make requests fail from now on, until the returned fault is removed or its ``with`` block ends.

        The keywords are the fields of :class:`FaultRule`::

            emulator.fault(key="train/*", delay=0.05)
            emulator.fault(operation="UploadPart", nth=2, error="InternalError")
            emulator.fault(probability=0.01, seed=7, truncate="middle")

        Raises:
            OssConfigError: The rule is wrong; the message says why.
            RuntimeError: The server is not running.
        """
        (fault,) = self._running().add_faults([rule])
        return fault

    def requests(self, *, operation: str | None = None) -> list[RecordedRequest]:
        """Return the request log, the oldest request first; it holds the latest 16,384 requests.

        Args:
            operation: Only requests for this operation, such as ``"GetObject"``.
        """
        found = self._running().requests()
        return [request for request in found if operation in {None, request.operation}]

    def peak_concurrency(self) -> int:
        """Return the largest number of requests that were in flight at the same time."""
        return self._running().peak_concurrency()

    def clear_requests(self) -> None:
        """Clear the request log and the peak of concurrency."""
        self._running().clear_requests()

    def start(self) -> None:
        """Start the server and wait until it is ready.

        Raises:
            OssConnectionError: The server ended; the message says why.
            OssTimeoutError: The server was not ready in time.
            RuntimeError: The server is already running.
        """
        if self._resources is not None:
            raise RuntimeError("the emulator is already running")
        with ExitStack() as resources:
            directory = tempfile.mkdtemp(prefix="osst-emulator-")
            # Runs also if the program does not stop the server, but not at the end of a forked child.
            resources.callback(weakref.finalize(self, _remove, directory, Owner()))
            log = resources.enter_context(Path(directory, "stderr").open("w+b"))
            cred_path = Path(directory, "credentials.json")
            _write_key(cred_path, KeyPair(self.access_key_id, self.access_key_secret))
            files = []
            for number, pair in enumerate(self._key_pairs):
                path = Path(directory, f"key-{number}.json")
                _write_key(path, pair)
                files += ["--credentials", str(path)]
            ca_bundle = str(Path(directory, "ca.pem")) if self._tls else ""
            if ca_bundle:
                files += ["--write-ca-bundle", ca_bundle]
            process = self._spawn(log, files)
            resources.callback(_end, process)
            self.endpoint = _wait_until_ready(process, log)
            self.cred_path = str(cred_path)
            self.ca_bundle = ca_bundle
            admin = Admin(self.endpoint, self._admin_token, ca_bundle or None)
            if self._faults:
                admin.add_faults(self._faults)
            self._admin = admin
            self._owner = Owner()
            self._resources = resources.pop_all()

    def stop(self) -> None:
        """Stop the server and wait for its end. Stopping again, or in a forked child, does nothing."""
        if self._resources is None or not self._owner.is_this_process():
            return
        self._resources.close()
        self._resources = None
        self._admin = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def _running(self) -> Admin:
        if self._admin is None:
            raise RuntimeError("the emulator is not running")
        return self._admin

    def _spawn(self, log: IO[bytes], files: list[str]) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            # Not as arguments, because every user of the machine can see them.
            "OSS_ACCESS_KEY_ID": self.access_key_id,
            "OSS_ACCESS_KEY_SECRET": self.access_key_secret,
            "OSS_EMULATOR_ADMIN_TOKEN": self._admin_token,
        }
        command = [sys.executable, "-m", "osstorchconnector.cli", "emulator", "--until-stdin-closes", "--admin"]
        return subprocess.Popen(  # noqa: S603 - this interpreter with our own module
            [*command, *self._arguments, *files],
            env=environment,
            # The pipe closes when this process ends, for any reason, and then the server ends.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # Ctrl-C in a terminal goes to the whole process group, but the server must outlive its clients.
            process_group=0,
        )


def _command_line(
    options: Mapping[str, str | float | os.PathLike[str] | None], switches: Mapping[str, bool]
) -> list[str]:
    arguments = []
    for name, value in options.items():
        if value is not None:
            arguments += [name, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    return arguments + [name for name, on in switches.items() if on]


def _write_key(path: Path, pair: KeyPair) -> None:
    document: dict[str, Any] = {"AccessKeyId": pair.access_key_id, "AccessKeySecret": pair.access_key_secret}
    if pair.security_token is not None:
        document["SecurityToken"] = pair.security_token
    if pair.expiration is not None:
        document["Expiration"] = pair.expiration.isoformat()
    if pair.policy is not None:
        document["Policy"] = pair.policy
    # The directory is private already; the mode is for tools that check the file only.
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))


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


def _remove(directory: str, owner: Owner) -> None:
    if owner.is_this_process():
        shutil.rmtree(directory)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # Leaving the block closes both pipes and waits.
    with process:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
