"""The suite of benchmarks runs the jobs that it names, counts what they did, and installs the peers that it names."""

import re
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.suite import contenders, report
from benchmarks.suite.contenders import OURS, Site, contender
from benchmarks.suite.job import JOBS
from benchmarks.suite.jobs import bare
from benchmarks.suite.jobs.transfers import TENSOR
from benchmarks.suite.measure import JobFailedError
from osstorchconnector.testing import Emulator

SUITE = Path(__file__).parents[1] / "benchmarks" / "suite"


def test_every_job_that_a_part_names_exists_and_every_job_is_named() -> None:
    named = {name for path in SUITE.glob("*.py") for name in re.findall(r'"job": "(\w+)"', path.read_text())}
    # The least that a client has to do stands in the column of the floor.
    named |= set(re.findall(r', "(receive|send)"\)', (SUITE / "in_conditions.py").read_text()))
    assert named - {"serve"} == set(JOBS)


def test_the_report_begins_as_the_suite_writes_it() -> None:
    assert (SUITE.parent / "report" / "README.md").read_text().startswith(report._HEAD)


def test_peers_have_the_same_versions_in_each_installation() -> None:
    assert [wheel for wheels in contenders._WHEELS.values() for wheel in wheels if "==" not in wheel] == []


def test_no_file_of_the_suite_is_long() -> None:
    assert [path.name for path in SUITE.rglob("*.py") if len(path.read_text().splitlines()) > 400] == []


def site_of(emulator: Emulator, folder: Path) -> Site:
    address = urlsplit(emulator.endpoint)
    assert address.hostname is not None
    assert address.port is not None
    return Site(address.port, folder, emulator.access_key_id, emulator.access_key_secret, address.hostname)


@pytest.mark.slow(240)
def test_jobs_do_what_they_count(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    client = emulator.client()
    for number in range(10):
        client.put(f"oss://{bucket}/small/{number}", bytes(1000))
    client.put(f"oss://{bucket}/large", bytes(3_000_000))
    names = tmp_path / "names"
    names.write_text("\n".join(f"{bucket}/small/{number}" for number in range(10)))
    state = {"name": f"{bucket}/state.pt", "size": 2 * TENSOR, "expected": 2 * TENSOR}
    tasks: list[dict[str, Any]] = [
        {"job": "small", "dataset": "iterable", "workers": 0, "names": str(names), "expected": 10},
        {"job": "small", "dataset": "map", "workers": 2, "names": str(names), "count": 7, "expected": 7},
        {"job": "listing", "uri": f"oss://{bucket}/small/", "expected": 10},
        {"job": "read_into", "name": f"{bucket}/large", "size": 3_000_000, "piece": 1 << 20, "expected": 3_000_000},
        {"job": "save", **state},
        {"job": "load", **state},
    ]
    site = site_of(emulator, tmp_path)
    for task in tasks:
        run = contender(OURS, site, {**task, "region": emulator.region})()
        assert run.amount == task["expected"]
        assert run.seconds > 0
    with pytest.raises(JobFailedError, match="7 instead of 10"):
        contender(OURS, site, {**tasks[1], "expected": 10, "region": emulator.region})()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", "5 of 10 bytes of bucket/key were received"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n12345", "bucket/key has 99 bytes, and 10 were asked for"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403 Forbidden"),
    ],
)
def test_the_floor_takes_no_part_for_the_whole(answer: bytes, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        task = {"endpoint": f"http://127.0.0.1:{listener.getsockname()[1]}", "name": "bucket/key"}
        with pytest.raises(SystemExit, match=message):
            bare.receive(task, memoryview(bytearray(10)))
        server.join()
