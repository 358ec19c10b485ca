"""What this package does, as spans of OpenTelemetry and as ranges in a profiler of torch."""

import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import torch
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from torch.distributed import checkpoint as dcp
from torch.profiler import profile

from osstorchconnector import (
    DataObject,
    OssCheckpoint,
    OssConfig,
    OssError,
    OssFileSystem,
    OssIterableDataset,
    OssMapDataset,
    OssSafetensor,
)
from osstorchconnector.connection import spans
from osstorchconnector.metrics import trace
from osstorchconnector.testing import Emulator

COUNT = 12


def size(item: DataObject) -> int:
    return len(item.read())


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        emulator.create_bucket("traced")
        for number in range(COUNT):
            emulator.client().put(f"oss://traced/data/{number:02}", b"12345")
        yield emulator


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def exporter(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace(provider)
    yield exporter
    spans.use_tracer(None)


def finished(exporter: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def children(parent: ReadableSpan, exporter: InMemorySpanExporter) -> list[str]:
    """Return what the requests of a span are about, sorted."""
    context = parent.get_span_context()
    assert context is not None
    return sorted(
        f"{span.name} {span.attributes.get('oss.key')!s}"
        for span in exporter.get_finished_spans()
        if span.parent is not None and span.parent.span_id == context.span_id and span.attributes is not None
    )


def test_a_get_is_nested_in_the_batch_that_asked(emulator: Emulator, exporter: InMemorySpanExporter) -> None:
    dataset = OssMapDataset.from_prefix("oss://traced/data/", transform=size, **emulator.connection)
    assert len(dataset) == COUNT
    # Batches in order are fetched ahead: the fourth one is in flight before it is asked for.
    for start in range(0, COUNT, 2):
        assert dataset.__getitems__([start, start + 1]) == [5, 5]
    batches = finished(exporter)["osstorchconnector.batch"]
    assert [children(batch, exporter) for batch in batches] == [
        [f"oss.get data/{start:02}", f"oss.get data/{start + 1:02}"] for start in range(0, COUNT, 2)
    ]
    first = batches[0]
    assert first.attributes is not None
    assert first.attributes["oss.uri"] == "oss://traced/data/"


def test_a_request_is_described_as_the_conventions_have_it(emulator: Emulator, exporter: InMemorySpanExporter) -> None:
    dataset = OssMapDataset.from_objects(["oss://traced/data/00"], **emulator.connection)
    with emulator.fault(key="data/00", error="InternalError", times=1):
        assert dataset[0].read() == b"12345"
    failed, repeated = finished(exporter)["oss.get"]
    assert failed.kind is SpanKind.CLIENT
    assert not failed.status.is_ok
    assert failed.status.description is not None
    assert failed.status.description.startswith("InternalError: ")
    assert failed.attributes is not None
    assert repeated.attributes is not None
    assert (failed.attributes["http.request.method"], failed.attributes["http.response.status_code"]) == ("GET", 500)
    assert repeated.attributes["http.response.status_code"] == 200
    assert repeated.attributes["http.request.resend_count"] == 1
    assert repeated.attributes["http.response.body.size"] == 5
    assert repeated.attributes["oss.request_id"] == emulator.requests()[-1].request_id
    assert failed.start_time is not None
    assert failed.end_time is not None
    assert repeated.start_time is not None
    assert failed.start_time < failed.end_time <= repeated.start_time + 1_000_000


def test_the_duration_of_requests_is_a_histogram_as_the_conventions_have_it(emulator: Emulator) -> None:
    reader = InMemoryMetricReader()
    trace(TracerProvider(), MeterProvider([reader]))
    try:
        dataset = OssMapDataset.from_objects(["oss://traced/data/00"], **emulator.connection)
        with emulator.fault(key="data/00", error="InternalError", times=1):
            assert dataset[0].read() == b"12345"
    finally:
        spans.use_tracer(None)
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, metric.unit) == ("http.client.request.duration", "s")
    server, port = urlsplit(emulator.endpoint).hostname, urlsplit(emulator.endpoint).port
    where = {"http.request.method": "GET", "server.address": server, "server.port": port}
    found = {(point.attributes or {})["http.response.status_code"]: point for point in metric.data.data_points}
    assert found[200].attributes == where | {"http.response.status_code": 200}
    assert found[500].attributes == where | {"http.response.status_code": 500, "error.type": "500"}
    for point in found.values():
        assert isinstance(point, HistogramDataPoint)
        assert point.count == 1
        assert 0 < point.sum < 10
        assert point.explicit_bounds[0] == 0.005


def test_a_request_without_an_answer_names_the_kind_of_its_failure(
    emulator: Emulator, exporter: InMemorySpanExporter
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    dataset = OssMapDataset.from_objects(
        ["oss://traced/data/00"],
        f"http://127.0.0.1:{port}",
        region=emulator.region,
        cred_path=emulator.cred_path,
        config=OssConfig(max_attempts=1),
    )
    with pytest.raises(OssError, match="data/00"):
        dataset[0].read()
    (failed,) = finished(exporter)["oss.get"]
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "no_connection"
    assert (failed.attributes["server.address"], failed.attributes["server.port"]) == ("127.0.0.1", port)


def test_an_iteration_has_its_requests(emulator: Emulator, exporter: InMemorySpanExporter) -> None:
    dataset = OssIterableDataset.from_prefix("oss://traced/data/", **emulator.connection)
    assert len(list(dataset)) == COUNT
    (iteration,) = finished(exporter)["osstorchconnector.iteration"]
    gets = [f"oss.get data/{number:02}" for number in range(COUNT)]
    assert [child for child in children(iteration, exporter) if child.startswith("oss.get")] == gets


def test_an_iteration_that_is_left_early_ends(emulator: Emulator, exporter: InMemorySpanExporter) -> None:
    dataset = OssIterableDataset.from_prefix("oss://traced/data/", **emulator.connection)
    iteration = iter(dataset)
    next(iteration)
    assert "osstorchconnector.iteration" not in finished(exporter)
    del iteration
    assert len(finished(exporter)["osstorchconnector.iteration"]) == 1


def test_an_error_is_recorded(emulator: Emulator, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(OssError):
        OssCheckpoint(**emulator.connection).load("oss://traced/missing")
    (load,) = finished(exporter)["osstorchconnector.checkpoint.load"]
    assert not load.status.is_ok
    assert children(load, exporter) == ["oss.head missing"]


def save_and_load(emulator: Emulator) -> None:
    checkpoint = OssCheckpoint(**emulator.connection)
    checkpoint.save({"weight": torch.ones(10)}, "oss://traced/one.pt")
    assert checkpoint.load("oss://traced/one.pt")["weight"].sum() == 10


def save_and_load_shards(emulator: Emulator) -> None:
    files = OssFileSystem(**emulator.connection)
    place = "oss://traced/dcp/step-1"
    dcp.save({"weight": torch.ones(10)}, storage_writer=files.writer(place))
    loaded = {"weight": torch.zeros(10)}
    dcp.load(loaded, storage_reader=files.reader(place))
    assert loaded["weight"].sum() == 10


def save_and_load_tensors(emulator: Emulator) -> None:
    tensors = OssSafetensor(**emulator.connection)
    tensors.save_file({"weight": torch.ones(10)}, "oss://traced/one.safetensors")
    assert tensors.load_file("oss://traced/one.safetensors")["weight"].sum() == 10


CHECKPOINTS: dict[str, Callable[[Emulator], None]] = {
    "checkpoint.save checkpoint.load": save_and_load,
    "dcp.write dcp.finish dcp.read": save_and_load_shards,
    "safetensors.save safetensors.load": save_and_load_tensors,
}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("names", CHECKPOINTS)
def test_checkpoints_are_spans_with_their_requests(
    emulator: Emulator, exporter: InMemorySpanExporter, names: str
) -> None:
    CHECKPOINTS[names](emulator)
    found = finished(exporter)
    for name in names.split():
        (span,) = found[f"osstorchconnector.{name}"]
        assert children(span, exporter), name


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("names", CHECKPOINTS)
def test_checkpoints_are_ranges_in_a_profile(emulator: Emulator, names: str) -> None:
    with profile() as profiled:
        CHECKPOINTS[names](emulator)
    found = {event.key for event in profiled.key_averages()}
    assert {f"osstorchconnector.{name}" for name in names.split()} <= found


def test_batches_and_samples_are_ranges_in_a_profile(emulator: Emulator) -> None:
    batches = OssMapDataset.from_prefix("oss://traced/data/", **emulator.connection)
    samples = OssIterableDataset.from_prefix("oss://traced/data/", **emulator.connection)
    iteration = iter(samples)
    next(iteration)
    with profile() as profiled:
        batches.__getitems__([0, 1])
        batches.__getitems__([2, 3])
        assert len(list(samples)) == COUNT
        # Began before the profiler: the reader looks for it once in some samples.
        assert len(list(iteration)) == COUNT - 1
    counted = {event.key: event.count for event in profiled.key_averages()}
    assert counted["osstorchconnector.batch"] == 2
    assert counted["osstorchconnector.sample"] >= COUNT
    next(iter(samples))


def test_nothing_is_traced_unless_the_program_asks(emulator: Emulator, provider: TracerProvider) -> None:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    save_and_load(emulator)
    assert not exporter.get_finished_spans()
