"""Errors of a DataLoader's workers arrive with their class and all fields, under every start method."""

import operator
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import (
    OssConnectionError,
    OssCredentialsError,
    OssError,
    OssIntegrityError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssPermissionError,
    OssThrottledError,
    OssTimeoutError,
)
from tests.faults.objects import ObjectServer, error_answer, uri, xml_answer
from tests.faults.readers import connect, settings
from tests.faults.server import Answer, Exchange, Request

# Each started worker imports torch, which takes seconds on a busy machine.
METHODS = [
    pytest.param("fork"),
    pytest.param("forkserver", marks=pytest.mark.slow(120)),
    pytest.param("spawn", marks=pytest.mark.slow(120)),
]
CONTENT = b"the right content"
READ = operator.methodcaller("read")
#: Class, code, status and attempts of the error of each object; None for an object without one.
EXPECTED: dict[str, tuple[type[OssError], str | None, int | None, int] | None] = {
    "fine": None,
    'missing [x], key="y"': (OssNotFoundError, "NoSuchKey", 404, 1),
    "denied": (OssPermissionError, "AccessDenied", 403, 1),
    "throttled": (OssThrottledError, "SlowDown", 503, 2),
    "broken": (OssConnectionError, None, None, 2),
    "corrupted": (OssIntegrityError, None, None, 2),
    "no http": (OssError, None, None, 1),
    "stalled": (OssTimeoutError, None, None, 2),
    "also fine": None,
}


def spoiled(exchange: Exchange, answer: Answer) -> None:
    match exchange.request.key:
        case "denied":
            exchange.reply(error_answer(exchange.request, 403, "AccessDenied", "You have no right."))
        case "throttled":
            exchange.reply(error_answer(exchange.request, 503, "SlowDown", "Please reduce your request rate."))
        case "broken":
            exchange.reply(answer, upto=5)
            exchange.hang_up()
        case "corrupted":
            answer.headers["x-oss-hash-crc64ecma"] = "1"
            exchange.reply(answer)
        case "no http":
            exchange.send(b"220 mail.example.com ESMTP\r\n")
            exchange.hang_up()
        case "stalled":
            exchange.reply(answer, upto=5)
            exchange.stall()
        case _:
            exchange.reply(answer)


def outcomes(loader: Any, count: int) -> list[Any]:
    """Return what the loader delivers, with errors at their positions."""
    found: list[Any] = []
    iterator = iter(loader)
    try:
        for _ in range(count):
            try:
                found.append(next(iterator))
            except OssError as error:
                found.append(error)
        with pytest.raises(StopIteration):
            next(iterator)
    finally:
        # If the garbage collector ended it, because the traceback refers to it, its end would take torch five seconds.
        iterator._shutdown_workers()
    return found


def check(outcome: Any, name: str) -> None:
    expected = EXPECTED[name]
    if expected is None:
        assert outcome == CONTENT
        return
    kind, code, status, attempts = expected
    assert type(outcome) is kind
    assert (outcome.code, outcome.status, outcome.attempts) == (code, status, attempts)
    assert (outcome.bucket, outcome.key) == ("scripted-bucket", name)
    assert (outcome.request_id is None) == (status is None)
    assert (outcome.ec is None) == (status is None)
    text = str(outcome)
    assert "in DataLoader worker process" in text
    # Both the worker's traceback and the message arrive.
    assert "Traceback" in text
    if code is not None:
        assert code in text


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_every_kind_of_error_crosses(kind: Any, method: str) -> None:
    contents = {name: CONTENT for name in EXPECTED if not name.startswith("missing")}
    with ObjectServer(contents, spoiled) as server:
        connection = connect(server, read_timeout=1)
        dataset = kind.from_objects([uri(name) for name in EXPECTED], transform=READ, **connection)
        # The loader asks the map dataset for one object at a time; the iterable dataset continues after each error.
        loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=method)
        found = outcomes(loader, len(EXPECTED))
    for outcome, name in zip(found, EXPECTED, strict=True):
        check(outcome, name)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_raises_its_first_error_and_the_next_batch_comes(method: str) -> None:
    contents = dict.fromkeys(["a", "b", "denied", "throttled", "c", "d"], CONTENT)
    with ObjectServer(contents, spoiled) as server:
        dataset = OssMapDataset.from_objects([uri(name) for name in contents], transform=READ, **connect(server))
        loader = DataLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context=method, collate_fn=list)
        first, second, third = outcomes(loader, 3)
    assert first == third == [CONTENT, CONTENT]
    check(second, "denied")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_the_error_of_a_malformed_listing_crosses(kind: Any, method: str) -> None:
    def no_listing(exchange: Exchange, _: Answer) -> None:
        exchange.reply(xml_answer("<Nothing/>"))

    with ObjectServer({"a": CONTENT}, no_listing, where=Request.is_listing) as server:
        dataset = kind.from_prefix(uri(""), transform=READ, **connect(server))
        sampler = None if kind is OssIterableDataset else [0]
        loader = DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=1, multiprocessing_context=method)
        (error,) = outcomes(loader, 1)
    assert type(error) is OssError
    assert error.bucket == "scripted-bucket"
    assert "XML" in str(error)
    assert "in DataLoader worker process" in str(error)


class Failing:
    """A provider that always fails."""

    def get_credentials(self) -> object:
        raise RuntimeError("no metadata service here")


@pytest.mark.parametrize("method", METHODS)
def test_a_providers_failure_crosses(method: str) -> None:
    with ObjectServer({"a": CONTENT}) as server:
        connection = {**connect(server), "config": settings().without_secrets(), "cred_provider": Failing()}
        dataset = OssIterableDataset.from_objects(uri("a"), transform=READ, **connection)
        loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=method)
        (error,) = outcomes(loader, 1)
        assert type(error) is OssCredentialsError
        assert "failed with RuntimeError" in str(error)
        assert server.count() == 0
