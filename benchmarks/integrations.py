"""What does it cost to show receivers in other packages?

    python -m benchmarks.integrations [--rounds 15]

Needs "altdispatch[contrib-test]". The first table is about 2,000 saves with three
receivers of post_save, each 100 in a transaction of Sentry's. The second one is about
sends to three receivers that do nothing. Each way has a process of its own in each
round, and the processor's time counts. Printed are medians of the rounds.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import thread_time

import sentry_sdk
from django.db.models.signals import post_save
from django.dispatch import Signal
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport

from altdispatch import monitoring
from benchmarks import shop
from benchmarks.variants import install_compiled

SAVES = 2000
SAVES_IN_TRANSACTION = 100
SENDS = 20_000
RECEIVERS = 3
READS = 50
KINDS = 100


class Nowhere(Transport):
    """Sends nothing."""

    def capture_envelope(self, envelope: Envelope) -> None:
        pass


def start_sentry(spans: bool) -> None:
    sentry_sdk.init(
        transport=Nowhere(),
        traces_sample_rate=1.0,
        integrations=[DjangoIntegration(signals_spans=spans)],
        auto_enabling_integrations=False,
    )


def make_receivers(count: int) -> list[Callable[..., None]]:
    def make() -> Callable[..., None]:
        return lambda **kwargs: None

    return [make() for _ in range(count)]


# 2,000 saves


def stock() -> float:
    start_sentry(spans=False)
    return save()


def stock_with_sentrys_spans() -> float:
    start_sentry(spans=True)
    return save()


def swapped() -> float:
    start_sentry(spans=False)
    install_compiled()
    return save()


def swapped_with_sentrys_spans() -> float:
    start_sentry(spans=True)
    install_compiled()
    return save()


def swapped_with_our_spans() -> float:
    from altdispatch.contrib.sentry import trace_slow_receivers

    start_sentry(spans=False)
    install_compiled()
    trace_slow_receivers()
    return save()


def save() -> float:
    """Return the microseconds of a save, of 2,000."""
    from benchmarks.shop.models import Book

    receivers = make_receivers(RECEIVERS)
    for receiver in receivers:
        post_save.connect(receiver, sender=Book)
    book = Book.objects.create(title="Title", pages=100)
    seconds = 0.0
    for _ in range(SAVES // SAVES_IN_TRANSACTION):
        with sentry_sdk.start_transaction(name="request"):
            start = thread_time()
            for _ in range(SAVES_IN_TRANSACTION):
                book.save()
            seconds += thread_time() - start
    return seconds / SAVES * 1e6


# Sends


def monitoring_off() -> float:
    return send()


def monitoring_on() -> float:
    monitoring.enable()
    return send()


def debug_toolbar() -> float:
    from altdispatch.contrib.debug_toolbar import ReceiversPanel

    ReceiversPanel(None, None).enable_instrumentation()
    return send()


def sentry_no_slow_receiver() -> float:
    from altdispatch.contrib.sentry import trace_slow_receivers

    trace_slow_receivers()
    return send()


def sentry_span_for_each() -> float:
    from altdispatch.contrib.sentry import trace_slow_receivers

    start_sentry(spans=False)
    trace_slow_receivers(slower_than=0)
    with sentry_sdk.start_transaction(name="request"):
        return send()


def opentelemetry_no_slow_receiver() -> float:
    from altdispatch.contrib.opentelemetry import trace_slow_receivers

    trace_slow_receivers()
    return send()


def opentelemetry_span_for_each() -> float:
    from opentelemetry.sdk.trace import TracerProvider

    from altdispatch.contrib.opentelemetry import trace_slow_receivers

    provider = TracerProvider()
    trace_slow_receivers(slower_than=0, tracer_provider=provider)
    with provider.get_tracer(__name__).start_as_current_span("request"):
        return send()


def send() -> float:
    """Return the microseconds of a receiver in a send to three."""
    install_compiled()
    signal = Signal(use_caching=True)
    receivers = make_receivers(RECEIVERS)
    for receiver in receivers:
        signal.connect(receiver)
    signal.send(Signal)
    start = thread_time()
    for _ in range(SENDS):
        signal.send(Signal)
    return (thread_time() - start) / SENDS / RECEIVERS * 1e6


# Reading the counts


def snapshot() -> float:
    return read(monitoring.snapshot)


def prometheus() -> float:
    from prometheus_client import CollectorRegistry, generate_latest

    from altdispatch.contrib.prometheus import SignalCollector

    registry = CollectorRegistry()
    registry.register(SignalCollector())
    return read(lambda: generate_latest(registry))


def opentelemetry() -> float:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from altdispatch.contrib.opentelemetry import observe_signals

    reader = InMemoryMetricReader()
    observe_signals(MeterProvider([reader]))
    return read(reader.get_metrics_data)


def read(counts: Callable[[], object]) -> float:
    """Return the microseconds that reading takes for each of 100 receivers."""
    install_compiled()
    monitoring.enable()
    signal = Signal()
    # A receiver is told by its class.
    kinds = [type(f"Receiver{n}", (), {"__call__": answer}) for n in range(KINDS)]
    receivers = [kind() for kind in kinds]
    for receiver in receivers:
        signal.connect(receiver)
    signal.send(None)
    counts()
    start = thread_time()
    for _ in range(READS):
        counts()
    return (thread_time() - start) / READS / KINDS * 1e6


def answer(self: object, **kwargs: object) -> None:
    pass


TABLES = {
    "A save with three receivers": [
        stock,
        stock_with_sentrys_spans,
        swapped,
        swapped_with_sentrys_spans,
        swapped_with_our_spans,
    ],
    "A receiver, in a send to three": [
        monitoring_off,
        monitoring_on,
        debug_toolbar,
        sentry_no_slow_receiver,
        sentry_span_for_each,
        opentelemetry_no_slow_receiver,
        opentelemetry_span_for_each,
    ],
    "Reading the counts, for each receiver": [snapshot, prometheus, opentelemetry],
}
WAYS = {way.__name__: way for ways in TABLES.values() for way in ways}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        shop.set_up()
        print(WAYS[options.way]())
        return
    for title, ways in TABLES.items():
        names = [way.__name__ for way in ways]
        rounds = [[*map(measure, names)] for _ in range(options.rounds)]
        print(f"{title:38}µs    more")
        for number, name in enumerate(names):
            more = sorted(values[number] - values[0] for values in rounds)
            cost = median(values[number] for values in rounds)
            print(
                f"  {name.replace('_', ' '):34}{cost:8.2f}{median(more):8.2f}"
                f"   {more[0]:.2f} to {more[-1]:.2f}"
            )


def measure(way: str) -> float:
    """Return what a way costs in a new process."""
    command = [sys.executable, "-m", "benchmarks.integrations", "--way", way]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    main()
