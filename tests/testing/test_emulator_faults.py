"""The emulator fails on purpose, and keeps a log of the requests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssConfigError,
    OssConnectionError,
    OssError,
    OssIntegrityError,
    OssPermissionError,
    OssThrottledError,
    OssTimeoutError,
)
from osstorchconnector.testing import Emulator, FaultRule

CONTENT = bytes(range(251)) * 2400
URI = "oss://bucket/dir/key"


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    with Emulator(buckets=["bucket"]) as server:
        yield server


@pytest.fixture
def server(running: Emulator) -> Iterator[Emulator]:
    """A server that holds one object, with no faults and an empty log."""
    running.client().put(URI, CONTENT)
    running.clear_requests()
    yield running
    running._running().call("DELETE", "faults")


def connect(server: Emulator, **settings: Any) -> OssClient:
    defaults: dict[str, Any] = {"max_attempts": 2, "read_timeout": 10, "total_timeout": 25}
    connection: dict[str, Any] = {**server.connection, "config": OssConfig(**{**defaults, **settings})}
    return OssClient(**connection)


def ranges(server: Emulator) -> list[str | None]:
    return [request.range for request in server.requests(operation="GetObject")]


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule(error="InternalError"),
        FaultRule(error="RequestTimeout", status=503),
        FaultRule(throttle=0.01),
        FaultRule(reset="before"),
        FaultRule(truncate="before"),
        FaultRule(reset="middle"),
        FaultRule(truncate=1),
        FaultRule(truncate=10**9),
        FaultRule(lose_reply=True),
        FaultRule(delay=0.01, error="InternalError"),
    ],
    ids=json.dumps,
)
def test_a_reader_survives_a_fault(server: Emulator, rule: FaultRule) -> None:
    once: FaultRule = {**rule, "operation": "GetObject", "times": 1}
    with server.fault(**once) as fault:
        assert connect(server).get(URI) == CONTENT
        assert fault.acted == 1
        assert [request.faults for request in server.requests()] == [(fault.number,), ()]


@pytest.mark.parametrize("seconds", [7200, -7200.5])
def test_a_skew_is_corrected_by_the_date_of_the_answer(server: Emulator, seconds: float) -> None:
    server.fault(clock_skew=seconds)
    assert connect(server).get(URI) == CONTENT
    assert [request.error_code for request in server.requests()] == ["RequestTimeTooSkewed", None]


def test_bytes_that_arrived_before_a_break_are_not_requested_again(server: Emulator) -> None:
    server.fault(truncate=500_000, nth=1)
    assert connect(server).get(URI) == CONTENT
    first, second = ranges(server)
    assert second is not None
    assert int(second.removeprefix("bytes=").partition("-")[0]) > 0
    assert first != second


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (FaultRule(error="InternalError"), OssError),
        (FaultRule(throttle=0.01), OssThrottledError),
        (FaultRule(error="AccessDenied"), OssPermissionError),
        (FaultRule(expired_token=True), OssPermissionError),
        (FaultRule(reset=10), OssConnectionError),
        (FaultRule(flip="middle"), OssIntegrityError),
        (FaultRule(wrong_crc=True), OssIntegrityError),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_fault_that_stays_is_reported(server: Emulator, rule: FaultRule, expected: type[OssError]) -> None:
    server.fault(**rule)
    with pytest.raises(expected):
        connect(server).get(URI)


def test_a_stall_is_given_up(server: Emulator) -> None:
    server.fault(operation="GetObject", nth=1, stall=100)
    assert connect(server, read_timeout=0.5).get(URI) == CONTENT
    server.fault(operation="GetObject", stall="before")
    with pytest.raises(OssTimeoutError):
        connect(server, read_timeout=0.3).get(URI)


def test_a_write_happens_although_its_reply_is_lost(server: Emulator) -> None:
    client = connect(server, max_attempts=1)
    client.put("oss://bucket/new", b"written")
    with server.fault(operation="DeleteObject", lose_reply=True), pytest.raises(OssConnectionError):
        client.delete("oss://bucket/new")
    assert [item.name for item in client.list("oss://bucket/new")] == []
    # The client finds out that the lost answer to an upload was a success.
    with server.fault(operation="PutObject", lose_reply=True):
        client.put("oss://bucket/new", b"written")
    assert client.get("oss://bucket/new") == b"written"


def test_a_refused_write_did_not_happen(server: Emulator) -> None:
    with server.fault(operation="PutObject", error="InternalError"), pytest.raises(OssError, match="InternalError"):
        connect(server, max_attempts=1).put(URI, b"other")
    assert connect(server).get(URI) == CONTENT


def seconds(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def test_delay_and_bandwidth_slow_down(server: Emulator) -> None:
    client = connect(server)
    with server.fault(delay=0.3):
        assert seconds(lambda: client.get(URI)) > 0.3
    with server.fault(delay={"uniform": [0.2, 0.3]}):
        assert seconds(lambda: client.get(URI)) > 0.2
    with server.fault(bandwidth=len(CONTENT) * 2):
        assert seconds(lambda: client.get(URI)) > 0.4


def test_rules_choose_by_operation_bucket_key_and_number(server: Emulator) -> None:
    client = connect(server, max_attempts=1)
    client.put("oss://bucket/other.txt", b"")
    fault = server.fault(operation=["GetObject", "HeadObject"], bucket="buck?t", key="dir/*", nth=[1, 3], error="X")
    client.get("oss://bucket/other.txt")
    assert (fault.met, fault.acted) == (0, 0)
    outcomes: list[str | None] = []
    for _ in range(4):
        try:
            client.get(URI)
            outcomes.append("read")
        except OssError as error:
            outcomes.append(error.code)
    assert outcomes == ["X", "read", "X", "read"]
    assert (fault.met, fault.acted) == (4, 2)
    fault.remove()
    fault.remove()
    assert (fault.met, fault.acted) == (0, 0)


def test_a_seed_repeats(server: Emulator) -> None:
    client = connect(server, max_attempts=1)
    names = [f"oss://bucket/many/{number}" for number in range(40)]
    for name in names:
        client.put(name, b"")

    def failing(seed: int, order: list[str]) -> set[str]:
        failed = set()
        with server.fault(key="many/*", probability=0.5, seed=seed, error="InternalError"):
            for name in order:
                try:
                    client.get(name)
                except OssError:
                    failed.add(name)
        return failed

    first = failing(1, names)
    assert 0 < len(first) < len(names)
    assert failing(1, names[::-1]) == first
    assert failing(2, names) != first


def test_a_wrong_rule_is_reported(server: Emulator) -> None:
    with pytest.raises(OssConfigError, match="rule 1: the rule does nothing"):
        server.fault(key="a")
    with pytest.raises(OssConfigError, match='"GetObjet" is no operation; use one of ListBuckets'):
        server.fault(operation="GetObjet", delay=1)
    with pytest.raises(OssConfigError, match="unknown field `dely`"):
        server.fault(dely=1)  # type: ignore[call-arg]


def test_the_log_shows_the_requests(server: Emulator) -> None:
    client = connect(server)
    client.get(URI, 10, 20)
    with pytest.raises(FileNotFoundError):
        client.get("oss://bucket/missing")
    read, missing = server.requests(operation="GetObject")
    assert (read.method, read.operation, read.bucket, read.key) == ("GET", "GetObject", "bucket", "dir/key")
    assert (read.range, read.status, read.error_code, read.response_bytes) == ("bytes=10-19", 206, None, 10)
    assert (read.concurrency, read.faults) == (1, ())
    assert (missing.status, missing.error_code) == (404, "NoSuchKey")
    assert server.requests(operation="PutObject") == []
    assert server.peak_concurrency() == 1
    server.clear_requests()
    assert server.requests() == []


def test_concurrency_is_reported(server: Emulator) -> None:
    with server.fault(operation="UploadPart", delay=0.5):
        client = connect(server, part_size=100 << 10, upload_concurrency=4)
        client.put("oss://bucket/large", bytes(500 << 10))
    parts = server.requests(operation="UploadPart")
    assert len(parts) == 5
    assert server.peak_concurrency() == max(part.concurrency for part in parts) > 1


def test_a_forked_child_may_use_it(server: Emulator) -> None:
    child = os.fork()
    if child == 0:
        server.fault(operation="HeadObject", error="InternalError")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(OssError, match="InternalError"):
        connect(server).head(URI)


def test_it_works_through_tls() -> None:
    with Emulator(
        buckets=["bucket"], tls=True, faults=[{"operation": "PutObject", "reset": "before", "nth": 1}]
    ) as server:
        server.client().put(URI, CONTENT)
        assert [request.status for request in server.requests()] == [0, 200]


def test_faults_from_the_start() -> None:
    with Emulator(faults=[{"operation": "PutBucket", "error": "TooManyBuckets"}]) as server:
        with pytest.raises(OssError, match="TooManyBuckets"):
            server.create_bucket("bucket")
        server.client().list_buckets()
    server = Emulator(faults=[{"key": "a"}])
    with pytest.raises(OssConfigError, match="does nothing"):
        server.start()
    with pytest.raises(RuntimeError, match="not running"):
        server.requests()


def test_a_stopped_server_is_reported() -> None:
    server = Emulator()
    with pytest.raises(RuntimeError, match="not running"):
        server.fault(delay=1)
    with server:
        admin = server._running()
        fault = server.fault(delay=1)
    with pytest.raises(RuntimeError, match="not running"):
        server.requests()
    with pytest.raises(OssConnectionError, match="does not answer"):
        admin.requests()
    with pytest.raises(OssConnectionError, match="does not answer"):
        fault.remove()


def test_a_stalled_client_does_not_keep_the_server() -> None:
    with Emulator(buckets=["bucket"], faults=[{"operation": "GetObject", "stall": "middle"}]) as server:
        server.client().put(URI, CONTENT)
        with pytest.raises(OssTimeoutError):
            connect(server, read_timeout=0.2, max_attempts=1).get(URI)
        assert seconds(server.stop) < 4


def emulate(*arguments: str, prelude: str = "", **environment: str) -> "subprocess.Popen[str]":
    program = f"{prelude}\nfrom osstorchconnector.cli.__main__ import main\nraise SystemExit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", program, "emulator", "--port", "0", "--until-stdin-closes", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(*arguments: str, prelude: str = "", **environment: str) -> str:
    with emulate(*arguments, prelude=prelude, **environment) as process:
        _, errors = process.communicate(timeout=20)
        assert process.returncode != 0
        return errors


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("faults.json", '[{"operation": "PutBucket", "error": "TooManyBuckets"}]'),
        ("faults.yaml", "# all of them\n- operation: PutBucket\n  error: TooManyBuckets\n"),
        ("faults.yml", "operation: [PutBucket]\nerror: TooManyBuckets\n"),
    ],
)
def test_rules_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with emulate("--faults", str(path)) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        config = OssConfig(access_key_id="emulator", access_key_secret="emulator-secret")
        client = OssClient(endpoint, region="cn-hangzhou", config=config)
        with pytest.raises(OssError, match="TooManyBuckets"):
            client.create_bucket("bucket")
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_a_wrong_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    assert "faults.json" in refusal("--faults", str(path))
    path.write_text('[{"delay": 1}, {"delay": "long"}]')
    assert 'rule 2: invalid type: string "long", expected seconds' in refusal("--faults", str(path))
    path = tmp_path / "faults.yaml"
    path.write_text("- [")
    assert "faults.yaml" in refusal("--faults", str(path))
    errors = refusal("--faults", str(path), prelude="import sys; sys.modules['yaml'] = None")
    assert "pip install pyyaml" in errors


def test_admin_needs_a_token() -> None:
    assert "OSS_EMULATOR_ADMIN_TOKEN" in refusal("--admin")
    assert "16 characters" in refusal("--admin", OSS_EMULATOR_ADMIN_TOKEN="short")


def test_the_token_is_not_shown() -> None:
    server = Emulator()
    assert all(server._admin_token not in argument for argument in server._arguments)
    assert server._admin_token != Emulator()._admin_token
