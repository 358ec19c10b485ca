"""The numbers of a process for Prometheus and OpenTelemetry, read by both libraries."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from torch.utils.data import DataLoader

from osstorchconnector import DataObject, OssMapDataset
from osstorchconnector.metrics import PrometheusCollector, observe
from osstorchconnector.testing import Emulator


def size(item: DataObject) -> int:
    return len(item.read())


@pytest.fixture(scope="module")
def dataset() -> Iterator[OssMapDataset]:
    """A dataset that two workers have read once."""
    with Emulator() as emulator:
        emulator.create_bucket("counted")
        for number in range(10):
            emulator.client().put(f"oss://counted/{number}", b"12345")
        dataset = OssMapDataset.from_prefix("oss://counted/", transform=size, **emulator.connection)
        assert sum(len(batch) for batch in DataLoader(dataset, batch_size=2, num_workers=2)) == 10
        assert dataset[0] == 5
        yield dataset


def scrape() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    registry = CollectorRegistry()
    registry.register(PrometheusCollector())
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_prometheus_reads_the_numbers(dataset: OssMapDataset) -> None:
    before = scrape()
    assert dataset[1] == 5
    after = scrape()
    assert after[("oss_requests_total", frozenset({("operation", "get")}))] == (
        before[("oss_requests_total", frozenset({("operation", "get")}))] + 1
    )
    assert after[("oss_received_bytes_total", frozenset())] == before[("oss_received_bytes_total", frozenset())] + 5
    assert after[("oss_first_byte_seconds_count", frozenset())] == (
        before[("oss_first_byte_seconds_count", frozenset())] + 1
    )
    assert after[("oss_first_byte_seconds_bucket", frozenset({("le", "+Inf")}))] >= 12
    labels = frozenset({("dataset", "OssMapDataset"), ("place", "oss://counted/")})
    # The last sample may not have been added yet.
    assert after[("oss_dataset_samples_total", labels)] >= 10
    assert dataset.stats().samples == 12


@pytest.mark.usefixtures("dataset")
def test_opentelemetry_reads_the_numbers() -> None:
    reader = InMemoryMetricReader()
    observe(MeterProvider(metric_readers=[reader]))
    data: Any = reader.get_metrics_data()
    metrics = {
        metric.name: {frozenset((point.attributes or {}).items()): point.value for point in metric.data.data_points}
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert metrics["oss.requests"][frozenset({("operation", "put")})] >= 10
    assert metrics["oss.sent_bytes"][frozenset()] >= 50
    assert metrics["oss.first_byte.count"][frozenset()] >= 11
    samples = metrics["oss.dataset_samples"]
    assert samples[frozenset({("dataset", "OssMapDataset"), ("place", "oss://counted/")})] >= 10
