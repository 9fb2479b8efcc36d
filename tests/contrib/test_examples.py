"""Test that each tool of ``python examples/watch.py`` shows the shop's receivers."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT

from .serving import TIME_LIMIT, free_port, served, wait_for_port, watched


def wait_for(read, is_complete):
    """Read until the result is complete, and return it."""
    end = time.monotonic() + TIME_LIMIT
    while not is_complete(found := read()):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def scrape(port, name, **labels):
    """Return the values of a metric with these labels."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
        return [
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]


def test_prometheus(tmp_path):
    port = free_port()

    def read():
        return scrape(
            port,
            "altdispatch_receiver_duration_seconds_count",
            signal="django.db.models.signals.post_save",
            receiver="orders.receivers.take_from_stock",
        )

    with watched("prometheus", tmp_path / "output", METRICS_PORT=str(port)):
        # The shop's first customer orders one book.
        assert wait_for(read, bool) == [1]


@pytest.fixture
def two_workers(tmp_path):
    """Serve the shop with two processes; return the address and metrics ports."""
    port, first = free_port(), free_port()
    bind = f"--bind=127.0.0.1:{port}"
    with served(
        ["-m", "gunicorn", "--workers=2", bind, "shop.wsgi_prometheus"],
        port,
        ROOT / "examples" / "shop",
        tmp_path / "output",
        DJANGO_SETTINGS_MODULE="shop.settings_prometheus",
        METRICS_PORT=str(first),
    ) as shop:
        ports = [first, first + 1]
        for each in ports:
            wait_for_port(each)
        yield shop, ports


def test_prometheus_with_two_processes(two_workers):
    """The counts of both processes add up to all requests."""
    shop, ports = two_workers

    def get_nothing(number):
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{shop}/{number}/")

    with ThreadPoolExecutor(4) as customers:
        assert len([*customers.map(get_nothing, range(40))]) == 40
    signal = "django.core.signals.request_started"
    found = [scrape(port, "altdispatch_sends_total", signal=signal) for port in ports]
    assert sum(itertools.chain(*found)) == 40


def test_opentelemetry(tmp_path):
    output = tmp_path / "output"
    # The intervals at which spans and metrics are exported, in milliseconds.
    intervals = {
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }
    expected = [
        '"name": "POST orders/"',
        '"name": "audit.receivers.record_change"',
        '"name": "altdispatch.receiver.calls"',
    ]
    with watched("opentelemetry", output, **intervals):
        wait_for(output.read_text, lambda text: all(each in text for each in expected))


def test_sentry(tmp_path):
    output = tmp_path / "output"
    span = "  event.django audit.receivers.record_change {"
    with watched("sentry", output):
        wait_for(output.read_text, lambda text: span in text)
