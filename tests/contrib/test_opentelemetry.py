"""Test the spans and metrics that the SDK exports, with Django instrumented."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from django.dispatch import Signal
from django.http import HttpResponse
from django.urls import path
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from altdispatch.contrib.opentelemetry import observe_signals, trace_slow_receivers
from altdispatch.utils import connected

# Seconds; longer than a busy machine delays a thread.
THRESHOLD = 0.1
# The greatest difference between two clocks, in nanoseconds.
TOLERANCE = 1_000_000

ordered = Signal()
times = []


def quick(**kwargs):
    pass


def slow(**kwargs):
    times.append(time.time_ns())
    time.sleep(2 * THRESHOLD)
    times.append(time.time_ns())


def fail_slowly(**kwargs):
    time.sleep(2 * THRESHOLD)
    raise ValueError("no paper")


async def slow_async(**kwargs):
    await asyncio.sleep(2 * THRESHOLD)


def order(request):
    ordered.send_robust(sender=None)
    return HttpResponse()


urlpatterns = [path("order/", order)]


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracer_provider(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def get(settings, client, tracer_provider):
    """Return a function that makes a request, which gets a span."""
    settings.ROOT_URLCONF = __name__
    instrumentor = DjangoInstrumentor()
    instrumentor.instrument(tracer_provider=tracer_provider)
    yield client.get
    instrumentor.uninstrument()


def name(receiver):
    return f"{__name__}.{receiver.__qualname__}"


def test_spans(swapped, get, exporter, tracer_provider):
    times.clear()
    with (
        trace_slow_receivers(THRESHOLD, tracer_provider),
        connected(quick, ordered),
        connected(slow, ordered),
        connected(fail_slowly, ordered),
    ):
        assert get("/order/").status_code == 200
    ours, failed, request = exporter.get_finished_spans()
    assert request.attributes["http.status_code"] == 200
    for span, receiver in (ours, slow), (failed, fail_slowly):
        assert span.name == span.attributes["code.function.name"] == name(receiver)
        assert span.attributes["altdispatch.signal"] == f"{__name__}.ordered"
        assert span.parent.span_id == request.context.span_id
        assert span.context.trace_id == request.context.trace_id
        assert span.instrumentation_scope.name == "altdispatch"
    start, end = times
    moments = [
        *(request.start_time, ours.start_time, start),
        *(end, ours.end_time, failed.start_time, failed.end_time, request.end_time),
    ]
    for earlier, later in itertools.pairwise(moments):
        assert later > earlier - TOLERANCE
    assert ours.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR
    (event,) = failed.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ValueError"
    assert event.timestamp == failed.end_time


def test_no_span_after_the_end(swapped, get, exporter, tracer_provider):
    stop = trace_slow_receivers(THRESHOLD, tracer_provider)
    stop()
    with connected(slow, ordered):
        get("/order/")
    (request,) = exporter.get_finished_spans()
    assert request.name == "GET order/"


def test_no_span_without_a_recording_parent(swapped, exporter, tracer_provider):
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer(__name__)
    with trace_slow_receivers(THRESHOLD, tracer_provider), connected(slow, ordered):
        ordered.send(None)
        with unsampled.start_as_current_span("not recording"):
            ordered.send(None)
        assert exporter.get_finished_spans() == ()
        with tracer_provider.get_tracer(__name__).start_as_current_span("recording"):
            ordered.send(None)
    assert len(exporter.get_finished_spans()) == 2


@pytest.mark.parametrize("receiver", [slow, slow_async])
def test_asynchronous_sends(swapped, exporter, tracer_provider, receiver):
    async def send(number):
        with tracer.start_as_current_span(f"task {number}"):
            await ordered.asend(None)

    async def send_all():
        await asyncio.gather(*map(send, range(3)))

    tracer = tracer_provider.get_tracer(__name__)
    with trace_slow_receivers(THRESHOLD, tracer_provider), connected(receiver, ordered):
        asyncio.run(send_all())
    spans = exporter.get_finished_spans()
    tasks = {span.context.span_id for span in spans if span.name.startswith("task")}
    parents = [span.parent.span_id for span in spans if span.name == name(receiver)]
    assert len(parents) == 3
    assert {*parents} == tasks


def test_metrics(monitored):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observe_signals(provider)
    with connected(slow, ordered), connected(fail_slowly, ordered):
        ordered.send_robust(None)
    ordered.send(None)
    found = read(reader)
    signal = f"{__name__}.ordered"
    assert found["altdispatch.sends", signal] == 2
    assert found["altdispatch.unheard_sends", signal] == 1
    for receiver, errors in (slow, 0), (fail_slowly, 1):
        labels = (signal, name(receiver))
        assert found["altdispatch.receiver.calls", *labels] == 1
        assert found["altdispatch.receiver.errors", *labels] == errors
        seconds = found["altdispatch.receiver.duration", *labels]
        assert seconds >= 2 * THRESHOLD
        assert found["altdispatch.receiver.own_duration", *labels] == seconds
    ordered.send(None)
    assert read(reader)["altdispatch.sends", signal] == 3
    provider.shutdown()


def read(reader):
    """Return the values, by name of the instrument and attributes."""
    return {
        (metric.name, *point.attributes.values()): point.value
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if metric.data.is_monotonic
    }
