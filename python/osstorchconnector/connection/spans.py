"""What this package does, as ranges in a running profiler of torch and as spans of OpenTelemetry.

If neither is on, an operation costs a look at a few variables, and an object costs nothing.
"""

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from osstorchconnector._native import ObjectStream, Trace, swap_trace

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Span, Tracer

P = ParamSpec("P")
Result = TypeVar("Result")

_PREFIX: Final = "osstorchconnector."
_METHODS: Final = {"get": "GET", "list": "GET", "head": "HEAD", "put": "PUT", "post": "POST", "delete": "DELETE"}
_FIRST_ERROR: Final = 400
_NOTHING: Final = nullcontext()

_tracer: "Tracer | None" = None
_durations: "Histogram | None" = None
_ask_torch: Callable[[], bool] | None = None
# What was begun before the program asked for it.
_begun_ahead: Final["weakref.WeakKeyDictionary[ObjectStream, Trace]"] = weakref.WeakKeyDictionary()


def use_tracer(tracer: "Tracer | None", durations: "Histogram | None" = None) -> None:
    """Make spans from now on, and record how long their requests took, or no more."""
    global _tracer, _durations
    _tracer, _durations = tracer, durations


def operation(name: str, uri: str) -> AbstractContextManager[object]:
    """Do something in the block: one range, and one span that its requests are nested in.

    Args:
        name: What is done, such as ``"checkpoint.load"``.
        uri: The place.
    """
    is_profiled = _is_profiling()
    if _tracer is None and not is_profiled:
        return _NOTHING
    return _operation(name, uri, is_profiled=is_profiled)


@contextmanager
def _operation(name: str, uri: str, *, is_profiled: bool) -> Iterator[None]:
    with ExitStack() as stack:
        if is_profiled:
            stack.enter_context(_record_function(_PREFIX + name))
        span = TracedSpan.begin(name, uri)
        if span is not None:
            stack.enter_context(span)
        yield


def ranged(name: str, function: Callable[P, Result]) -> Callable[P, Result]:
    """Return a function that runs in a range of its own, or the function itself if no profiler is running."""
    if not _is_profiling():
        return function

    def recorded(*arguments: P.args, **named: P.kwargs) -> Result:
        with _record_function(_PREFIX + name):
            return function(*arguments, **named)

    return recorded


class TracedSpan:
    """A span of OpenTelemetry, and the requests that are nested in it.

    In its block, what this thread begins belongs to it.
    """

    def __init__(self, tracer: "Tracer", name: str, uri: str) -> None:
        """Begin now."""
        self._tracer = tracer
        self._span: Span = tracer.start_span(_PREFIX + name, attributes={"oss.uri": uri})
        self._trace = Trace()
        self._traces = [self._trace]
        self._left_out = 0
        self._has_ended = False

    @classmethod
    def begin(cls, name: str, uri: str) -> "Self | None":
        """Begin now if the program traces."""
        return None if _tracer is None else cls(_tracer, name, uri)

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Begin something in the block that belongs to the span; the span does not end with the block."""
        before, token = swap_trace(self._trace), _running.set(self)
        try:
            yield
        finally:
            swap_trace(before)
            _running.reset(token)

    def __enter__(self) -> Self:
        """Begin the block."""
        from opentelemetry.trace import use_span  # noqa: PLC0415 - an extra

        self._stack = ExitStack()
        self._stack.enter_context(use_span(self._span, record_exception=True, set_status_on_exception=True))
        self._stack.enter_context(self.beginning())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the block and the span."""
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            self.end()

    def adopt(self, trace: Trace) -> None:
        """Nest the requests of another trace too."""
        self._traces.append(trace)

    def export(self) -> None:
        """Make spans of the requests that have ended."""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415 - an extra

        if self._has_ended:
            return
        context = set_span_in_context(self._span)
        for trace in self._traces:
            attempts, left_out = trace.take()
            self._left_out += left_out
            for attempt in attempts:
                _export(self._tracer, context, attempt)

    def end(self) -> None:
        """End the span."""
        if not self._has_ended:
            self.export()
            self._has_ended = True
            if self._left_out:
                self._span.set_attribute("oss.requests_left_out", self._left_out)
            self._span.end()


def _export(tracer: "Tracer", context: Any, attempt: dict[str, Any]) -> None:  # noqa: ANN401 - an extra's type
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415 - an extra

    began: int = attempt["began"]
    conventional = _present(
        {
            "http.request.method": _METHODS[attempt["operation"]],
            "http.response.status_code": attempt["status"],
            "server.address": attempt["server"],
            "server.port": attempt["port"],
            "error.type": _error_type(attempt),
        }
    )
    others = {
        "http.request.resend_count": attempt["number"] - 1 or None,
        "http.request.body.size": attempt["sent"] or None,
        "http.response.body.size": attempt["received"],
        "oss.operation": attempt["operation"],
        "oss.bucket": attempt["bucket"],
        "oss.key": attempt["key"],
        "oss.range": attempt["range"],
        "oss.request_id": attempt["request_id"],
        "oss.first_byte_seconds": attempt["first_byte"] / 1e9,
    }
    span = tracer.start_span(
        f"oss.{attempt['operation']}",
        context,
        SpanKind.CLIENT,
        conventional | _present(others),
        start_time=began,
    )
    if attempt["failure"] is not None:
        span.set_status(Status(StatusCode.ERROR, attempt["failure"]))
    span.end(began + attempt["total"])
    if _durations is not None:
        _durations.record(attempt["total"] / 1e9, conventional, set_span_in_context(span, context))


def _present(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _error_type(attempt: dict[str, Any]) -> str | None:
    """Return what went wrong, in few words: the conventions want the status where there is one."""
    if attempt["failure"] is None:
        return None
    status = attempt["status"]
    return str(status) if status is not None and status >= _FIRST_ERROR else attempt["cause"]


# The span that this thread is in.
_running: Final[ContextVar[TracedSpan | None]] = ContextVar("osstorchconnector_span", default=None)


def start_ahead(start: Callable[[], ObjectStream]) -> ObjectStream:
    """Start a stream that a later operation will :func:`adopt`."""
    if _tracer is None:
        return start()
    trace = Trace()
    before = swap_trace(trace)
    try:
        stream = start()
    finally:
        swap_trace(before)
    _begun_ahead[stream] = trace
    return stream


def adopt(stream: ObjectStream) -> None:
    """Nest the requests of a stream that was started ahead in the operation that this thread is in."""
    running = _running.get()
    trace = None if running is None else _begun_ahead.pop(stream, None)
    if running is not None and trace is not None:
        running.adopt(trace)


def follow() -> Callable[[], None]:
    """Return what a new thread calls, so that its requests are nested in the operation that this thread is in."""
    here = swap_trace(None)
    swap_trace(here)

    def begin() -> None:
        swap_trace(here)

    return begin


def _is_profiling() -> bool:
    global _ask_torch  # noqa: PLW0603 - an import in a function takes a microsecond each time
    if _ask_torch is None:
        # Without torch nothing profiles.
        if "torch.autograd.profiler" not in sys.modules:
            return False
        from osstorchconnector._torch.profiler import is_profiling  # noqa: PLC0415 - it needs torch

        _ask_torch = is_profiling
    return _ask_torch()


def _record_function(name: str) -> AbstractContextManager[object]:
    from torch.profiler import record_function  # noqa: PLC0415 - it is loaded already

    return record_function(name)
