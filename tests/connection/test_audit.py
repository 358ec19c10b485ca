"""The file that says which attempts at requests were slow or failed."""

import json
import logging
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import DataObject, OssClient, OssConfig, OssConfigError, OssError, OssMapDataset
from osstorchconnector.testing import Emulator
from tests.faults.objects import ObjectServer, uri
from tests.faults.readers import ACCESS_KEY_SECRET, SECURITY_TOKEN, connect
from tests.faults.server import Answer, Exchange

LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)\|AUDIT\|(?P<process>\d+)\|oss:(?P<operation>[a-z]+) "
    r"\[url=(?P<url>[^\]]*)\](\[range=(?P<range>[^\]]*)\])?\[status=(?P<status>\d+)\]\[request_id=(?P<id>[\w-]*)\]"
    r"\[attempt=(?P<attempt>\d+)\]\[sent=(?P<sent>\d+)\]\[received=(?P<received>\d+)\]"
    r"\[first_byte=(?P<first_byte>\d+)\]\[latency=(?P<latency>\d+)\](\[error=(?P<error>.*)\])?"
)
NEVER = 600.0


def lines(path: Path) -> list[dict[str, Any]]:
    found = [LINE.fullmatch(line) for line in path.read_text().splitlines()]
    assert None not in found, path.read_text()
    return [line.groupdict() for line in found if line is not None]


@pytest.fixture(scope="module")
def emulator() -> Any:
    with Emulator() as emulator:
        emulator.create_bucket("audited")
        for number in range(8):
            emulator.client().put(f"oss://audited/data/{number}", b"12345")
        yield emulator


def audited(emulator: Emulator, path: Path, slow: float = NEVER) -> OssClient:
    return OssClient(**emulator.connection, config=OssConfig(audit_path=str(path), audit_slow_seconds=slow))


def test_a_quick_success_is_no_line_and_a_failure_is_one(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    client = audited(emulator, path)
    assert client.get("oss://audited/data/1") == b"12345"
    assert path.read_text() == ""
    with pytest.raises(OssError) as caught:
        client.get("oss://audited/data/missing")
    (line,) = lines(path)
    assert (line["operation"], line["url"], line["status"]) == ("get", "oss://audited/data/missing", "404")
    assert line["id"] == caught.value.request_id
    assert line["error"].startswith("NoSuchKey: ")
    assert int(line["process"]) == os.getpid()


def test_an_attempt_that_fails_and_is_repeated_is_a_line(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    client = audited(emulator, path)
    with emulator.fault(key="data/2", error="InternalError", times=2):
        assert client.get("oss://audited/data/2") == b"12345"
    assert [(line["status"], line["attempt"]) for line in lines(path)] == [("500", "1"), ("500", "2")]


OPERATIONS: dict[str, Callable[[OssClient], object]] = {
    "get": lambda client: client.get("oss://audited/data/1"),
    "head": lambda client: client.stat("oss://audited/data/1"),
    "list": lambda client: list(client.list("oss://audited/data/")),
    "put": lambda client: client.put("oss://audited/written", b"123"),
    "delete": lambda client: client.delete("oss://audited/written"),
    "post": lambda client: client.delete_many(["oss://audited/written"]),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_that_is_slow_is_a_line(emulator: Emulator, tmp_path: Path, operation: str) -> None:
    path = tmp_path / "audit.log"
    client = audited(emulator, path, 0.05)
    with emulator.fault(delay=0.06):
        OPERATIONS[operation](client)
    (line,) = lines(path)
    assert line["operation"] == operation
    assert line["status"] in {"200", "204"}
    assert line["id"] == emulator.requests()[-1].request_id
    assert int(line["latency"]) >= int(line["first_byte"]) >= 60_000
    assert line["error"] is None
    assert (line["received"], line["sent"]) == {"get": ("5", "0"), "put": ("0", "3")}.get(
        operation, (line["received"], line["sent"])
    )


def test_a_body_that_comes_slowly_is_slow(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    emulator.client().put("oss://audited/large", b"x" * 100_000)
    client = audited(emulator, path, 0.05)
    with emulator.fault(key="large", bandwidth=500_000):
        client.get("oss://audited/large", 0, 50_000)
    (line,) = [line for line in lines(path) if line["operation"] == "get"]
    assert (line["range"], line["received"]) == ("0-49999", "50000")
    assert int(line["latency"]) > int(line["first_byte"])


@pytest.mark.parametrize("damage", ["break", "flip"])
def test_an_answer_that_is_worth_nothing_is_a_failure(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "audit.log"

    def fault(exchange: Exchange, answer: Answer) -> None:
        if damage == "break":
            exchange.reply(answer, upto=500)
            exchange.hang_up()
        else:
            exchange.reply(Answer(answer.status, answer.headers, b"y" + answer.body[1:]))

    with ObjectServer({"one": b"x" * 1000}, fault, times=1) as server:
        given = connect(server, audit_path=str(path), audit_slow_seconds=NEVER)
        assert OssClient(**given).get(uri("one")) == b"x" * 1000
    (line,) = lines(path)
    assert line["status"] == "200"
    assert {"break": "broke", "flip": "CRC-64"}[damage] in line["error"]


def test_what_a_server_says_cannot_write_a_line_or_show_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"

    def fault(exchange: Exchange, _: Answer) -> None:
        said = f"one\n2025-01-01T00:00:00.000000Z|AUDIT|1|{ACCESS_KEY_SECRET}|{SECURITY_TOKEN}\x1b[31m"
        body = f"<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>".encode()
        exchange.reply(Answer(403, {}, body))

    with ObjectServer({"one": b"1"}, fault) as server:
        client = OssClient(**connect(server, audit_path=str(path)))
        with pytest.raises(OssError):
            client.get(uri("one"))
        authorization = server.requests[0].headers["authorization"]
    text = path.read_text()
    assert len(lines(path)) == 1
    for secret in (ACCESS_KEY_SECRET, SECURITY_TOKEN, authorization.rpartition("=")[2], "\x1b"):
        assert secret not in text


def test_at_the_level_debug_the_log_has_each_request(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "osstorchconnector"):
        client = OssClient(**emulator.connection)
        client.get("oss://audited/data/1")
        (record,) = [record for record in caplog.records if "oss:" in record.getMessage()]
        identifier = emulator.requests()[-1].request_id
    assert (record.levelname, record.name) == ("DEBUG", "osstorchconnector.native")
    assert f"oss:get [url=oss://audited/data/1][status=200][request_id={identifier}]" in record.getMessage()
    caplog.clear()
    # The level of the program decides again.
    OssClient(**emulator.connection).get("oss://audited/data/1")
    assert not [record for record in caplog.records if "oss:" in record.getMessage()]


def size(item: DataObject) -> int:
    return len(item.read())


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.slow(60)
def test_workers_write_to_the_same_file(emulator: Emulator, tmp_path: Path, start: str) -> None:
    path = tmp_path / "audit.log"
    config = OssConfig(audit_path=str(path), audit_slow_seconds=1e-9)
    dataset = OssMapDataset.from_prefix("oss://audited/data/", transform=size, **emulator.connection, config=config)
    context = multiprocessing.get_context(start)
    assert sum(len(batch) for batch in DataLoader(dataset, 1, num_workers=2, multiprocessing_context=context)) == 8
    found = lines(path)
    assert sum(line["operation"] == "get" for line in found) == 8
    assert len({line["process"] for line in found if line["operation"] == "get"}) == 2


def test_the_file_of_the_original_names_it(emulator: Emulator, tmp_path: Path) -> None:
    path, document = tmp_path / "audit.log", tmp_path / "config.json"
    document.write_text(json.dumps({"auditPath": str(path), "auditSlowMs": 0.001}))
    OssClient(**emulator.connection, config_path=str(document)).get("oss://audited/data/1")
    assert len(lines(path)) == 1


def test_a_file_that_cannot_be_written_is_named(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "audit.log"
    with pytest.raises(OssConfigError, match=r"audit file '.*missing/audit\.log' cannot be written: No such file"):
        audited(emulator, path).get("oss://audited/data/1")
