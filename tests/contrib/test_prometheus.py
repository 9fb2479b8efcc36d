"""Test that a scrape over HTTP returns what monitoring has counted."""

from __future__ import annotations

import time
from contextlib import ExitStack
from urllib.request import urlopen

import pytest
from django.dispatch import Signal
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from altdispatch import monitoring
from altdispatch.contrib.prometheus import SignalCollector
from altdispatch.utils import connected

CALLS = "altdispatch_receiver_duration_seconds_count"
SECONDS = "altdispatch_receiver_duration_seconds_sum"
BUCKET = "altdispatch_receiver_duration_seconds_bucket"
OWN = "altdispatch_receiver_own_seconds_total"
ERRORS = "altdispatch_receiver_errors_total"
SENDS = "altdispatch_sends_total"
UNHEARD = "altdispatch_unheard_sends_total"

ordered = Signal()
billed = Signal()


def bill(**kwargs):
    time.sleep(0.005)
    billed.send(None)


def send_bill(**kwargs):
    time.sleep(0.005)


def refuse(**kwargs):
    raise ValueError


def make_receiver(fails):
    """Return one of two functions that have the same name and different code."""
    if fails:

        def receiver(**kwargs):
            raise KeyError

    else:

        def receiver(**kwargs):
            pass

    return receiver


def labels(signal, receiver=None):
    names = [signal] if receiver is None else [signal, receiver.__qualname__]
    return tuple(f"{__name__}.{name}" for name in names)


def sorted_labels(sample):
    """Return the labels of a sample, in the order of the metrics."""
    names = ("signal", "receiver", "le")
    return [sample.labels[name] for name in names if name in sample.labels]


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    registry.register(SignalCollector())
    return registry


@pytest.fixture
def scrape(monitored, registry):
    """Return a function that scrapes, by the name of the time series and its labels."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)

    def scrape():
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as response:
            families = text_string_to_metric_families(response.read().decode())
            return {
                (sample.name, *sorted_labels(sample)): sample.value
                for family in families
                for sample in family.samples
            }

    yield scrape
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def send():
    """Return a function that connects receivers and sends the signals."""

    def send(*receivers, times=1):
        with ExitStack() as stack:
            stack.enter_context(connected(send_bill, billed))
            for receiver in receivers:
                stack.enter_context(connected(receiver, ordered))
            for _ in range(times):
                ordered.send_robust(None)

    return send


def test_scrape(scrape, send):
    send(bill, refuse, times=3)
    found = scrape()
    for receiver, errors in (bill, 0), (refuse, 3):
        assert found[CALLS, *labels("ordered", receiver)] == 3
        assert found[ERRORS, *labels("ordered", receiver)] == errors
    # bill() also called send_bill().
    assert found[SECONDS, *labels("ordered", bill)] >= 0.03
    assert found[SECONDS, *labels("billed", send_bill)] >= 0.015
    own = found[OWN, *labels("ordered", bill)]
    assert 0.015 <= own <= found[SECONDS, *labels("ordered", bill)] - 0.015
    assert found[SENDS, *labels("ordered")] == found[SENDS, *labels("billed")] == 3
    assert found[UNHEARD, *labels("ordered")] == 0


def test_each_scrape_is_up_to_date(scrape, send):
    send(refuse)
    scrape()
    send(refuse)
    send()
    found = scrape()
    assert found[CALLS, *labels("ordered", refuse)] == 2
    assert found[SENDS, *labels("ordered")] == 3
    assert found[UNHEARD, *labels("ordered")] == 1


def test_histogram(scrape, send):
    send(bill, times=4)
    found = scrape()
    names = labels("ordered", bill)
    buckets = {
        float(key[-1]): count
        for key, count in found.items()
        if key[:-1] == (BUCKET, *names)
    }
    assert len(buckets) == 14
    counts = [buckets[bound] for bound in sorted(buckets)]
    assert counts == sorted(counts)
    assert buckets[0.004194304] == 0
    assert buckets[float("inf")] == found[CALLS, *names] == 4
    (stats,) = [
        receiver
        for signal in monitoring.snapshot().signals
        for receiver in signal.receivers
        if (signal.name, receiver.name) == names
    ]
    bound = min(bound for bound, count in buckets.items() if count == 4)
    assert bound / 4 < stats.longest <= bound


def test_receivers_with_the_same_name_are_added_up(scrape, send):
    one, other = make_receiver(fails=False), make_receiver(fails=True)
    assert labels("ordered", one) == labels("ordered", other)
    send(one, other, times=2)
    found = scrape()
    assert found[CALLS, *labels("ordered", one)] == 4
    assert found[ERRORS, *labels("ordered", one)] == 2


def test_a_second_collector_is_an_error(registry):
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(SignalCollector())
