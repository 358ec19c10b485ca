"""What clients and datasets of this process count, for Prometheus and for OpenTelemetry, and what they do, as spans.

Both libraries bring what they need themselves: servers, files, gateways, exporters. The numbers are read when the
library asks for them.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector.connection.spans import use_tracer
from osstorchconnector.connection.stats import stats
from osstorchconnector.dataset.stats import DatasetStats
from osstorchconnector.dataset.stats_file import running_jobs

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["observe", "PrometheusCollector", "trace"]


class _Now:
    """The numbers at one moment."""

    def __init__(self) -> None:
        self.client: Final = stats()

    @cached_property
    def datasets(self) -> dict[tuple[str, str], list[DatasetStats]]:
        """The numbers of the datasets of this process, by kind and place."""
        found: dict[tuple[str, str], list[DatasetStats]] = {}
        for job in running_jobs(Path(tempfile.gettempdir())):
            if job.process == os.getpid():
                found.setdefault((job.kind, job.place), []).append(DatasetStats.of(job.numbers))
        return found


_Values = Callable[[_Now], Iterable[tuple[dict[str, str], float]]]


@dataclass(frozen=True)
class _Metric:
    """One metric: its name, what it is, its unit, and how its values are found."""

    name: str
    help: str
    unit: str
    #: Returns each value with its labels.
    values: _Values
    #: Whether it may become smaller.
    is_level: bool = False


def _by(label: str, field: str) -> _Values:
    return lambda now: [({label: name}, count) for name, count in getattr(now.client, field).items()]


def _one(field: str) -> _Values:
    return lambda now: [({}, getattr(now.client, field))]


def _datasets(value: Callable[[DatasetStats], float]) -> _Values:
    return lambda now: [
        ({"dataset": kind, "place": place}, sum(map(value, several))) for (kind, place), several in now.datasets.items()
    ]


_METRICS: Final = (
    _Metric("requests", "requests, each attempt counted", "{request}", _by("operation", "requests")),
    _Metric("retries", "attempts after which the request was sent again", "{request}", _by("cause", "retries")),
    _Metric("failures", "operations that failed", "{operation}", _by("cause", "failures")),
    _Metric("received_bytes", "bytes of objects received", "By", _one("received_bytes")),
    _Metric("verified_bytes", "received bytes of which the checksum was right", "By", _one("verified_bytes")),
    _Metric("sent_bytes", "bytes of request bodies", "By", _one("sent_bytes")),
    _Metric("waited_seconds", "time that threads waited for OSS", "s", _one("waited_seconds")),
    _Metric("listed_pages", "pages of listings", "{page}", _one("listed_pages")),
    _Metric("connections_opened", "connections opened", "{connection}", _one("connections_opened")),
    _Metric(
        "connections_open", "connections that are open now", "{connection}", _one("connections_open"), is_level=True
    ),
    _Metric(
        "concurrency", "requests that datasets may have in flight now", "{request}", _one("concurrency"), is_level=True
    ),
    _Metric("held_bytes", "bytes held ahead of the program now", "By", _one("held_bytes"), is_level=True),
    _Metric("dataset_samples", "samples delivered, by all workers", "{sample}", _datasets(lambda s: s.samples)),
    _Metric("dataset_waiting_seconds", "time that readers waited for OSS", "s", _datasets(lambda s: s.waiting_seconds)),
    _Metric("dataset_transform_seconds", "time of the transform", "s", _datasets(lambda s: s.transform_seconds)),
    _Metric("dataset_program_seconds", "time between two samples", "s", _datasets(lambda s: s.program_seconds)),
)

#: Seconds, as the semantic conventions name them.
_DURATION_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class PrometheusCollector:
    """Hands the numbers of this process to ``prometheus_client``.

    ::

        from prometheus_client import REGISTRY, start_http_server

        REGISTRY.register(PrometheusCollector())
        start_http_server(9400)

    The client's numbers are those of this process; DataLoader workers count for themselves. The numbers of a dataset
    (``oss_dataset_...``) have those of its workers in them.
    """

    def collect(self) -> "Iterator[Any]":
        """Return the metrics; Prometheus calls it. All names begin with ``oss_``."""
        from prometheus_client.core import (  # noqa: PLC0415 - an extra
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        now = _Now()
        for metric in _METRICS:
            found = list(metric.values(now))
            if not found:
                continue
            family = GaugeMetricFamily if metric.is_level else CounterMetricFamily
            collected = family(f"oss_{metric.name}", metric.help, labels=list(found[0][0]))
            for labels, value in found:
                collected.add_metric(list(labels.values()), value)
            yield collected
        first_byte = HistogramMetricFamily(
            "oss_first_byte_seconds", "time from a request to the first byte of its answer"
        )
        ends = (*(str(bound) for bound in now.client.first_byte_bounds), "+Inf")
        counted = list(zip(ends, accumulate(now.client.first_byte_counts), strict=True))
        first_byte.add_metric([], counted, now.client.first_byte_seconds)
        yield first_byte


def observe(meter_provider: "MeterProvider | None" = None) -> None:
    """Let OpenTelemetry observe the numbers of this process, under names that begin with ``oss.``.

    Call it once. The times to the first byte are a count and a sum, because OpenTelemetry has no histogram that is
    observed.

    Args:
        meter_provider: Where to register. Default: the provider of the program.

    Raises:
        ImportError: ``opentelemetry-api`` is not installed.
    """
    from opentelemetry.metrics import CallbackOptions, Observation, get_meter  # noqa: PLC0415 - an extra

    from osstorchconnector._native import __version__  # noqa: PLC0415 - as the line above

    meter = get_meter("osstorchconnector", __version__, meter_provider)

    def callback(metric: _Metric) -> "Callable[[CallbackOptions], Iterable[Observation]]":
        return lambda _: [Observation(value, labels) for labels, value in metric.values(_Now())]

    first_byte = (
        _Metric("first_byte.count", "answers", "{answer}", lambda now: [({}, sum(now.client.first_byte_counts))]),
        _Metric("first_byte.sum", "times to the first byte, together", "s", _one("first_byte_seconds")),
    )
    for metric in (*_METRICS, *first_byte):
        create = meter.create_observable_up_down_counter if metric.is_level else meter.create_observable_counter
        create(f"oss.{metric.name}", [callback(metric)], unit=metric.unit, description=metric.help)


def trace(tracer_provider: "TracerProvider | None" = None, meter_provider: "MeterProvider | None" = None) -> None:
    """Let OpenTelemetry have a span of each batch, iteration and checkpoint of this process, with its requests in it.

    Call it once in each process, after the program has set its provider; in DataLoader workers, from
    ``worker_init_fn``. The spans have the names ``osstorchconnector.batch`` and ``.iteration`` of datasets,
    ``.checkpoint.load`` and ``.save``, ``.dcp.read``, ``.write`` and ``.finish``, ``.safetensors.load`` and ``.save``.
    In them are those of their requests, each attempt one: ``oss.get``, ``oss.list`` and so on. A request that was sent
    before its batch was asked for begins before it.

    How long those requests took goes into the histogram ``http.client.request.duration``, in seconds, with method,
    status, server and kind of error, as the `semantic conventions
    <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>`__ have it.

    Args:
        tracer_provider: What gets the spans. Default: the provider of the program.
        meter_provider: What gets the histogram. Default: the provider of the program.

    Raises:
        ImportError: ``opentelemetry-api`` is not installed.
    """
    from opentelemetry.metrics import get_meter  # noqa: PLC0415 - an extra
    from opentelemetry.trace import get_tracer  # noqa: PLC0415 - an extra

    from osstorchconnector._native import __version__  # noqa: PLC0415 - as the line above

    durations = get_meter("osstorchconnector", __version__, meter_provider).create_histogram(
        "http.client.request.duration",
        unit="s",
        description="Duration of HTTP client requests.",
        explicit_bucket_boundaries_advisory=_DURATION_BOUNDS,
    )
    use_tracer(get_tracer("osstorchconnector", __version__, tracer_provider), durations)
