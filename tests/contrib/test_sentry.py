"""Test the spans in the envelopes of Sentry's SDK, for requests to a project.

The project runs in its own process, as the SDK patches Django permanently.
"""

from __future__ import annotations

import itertools
import json
from datetime import datetime

import pytest

# Seconds; longer than a busy machine delays a thread.
THRESHOLD = 0.1
# The greatest difference between two clocks, in seconds.
TOLERANCE = 0.001

PROJECT = f"""
import asyncio
import json
import time
from wsgiref.util import setup_testing_defaults

import django
import sentry_sdk
from django.conf import settings
from sentry_sdk.integrations.django import DjangoIntegration

from altdispatch.contrib.sentry import trace_slow_receivers
from tests.companions._sentry import RecordingTransport

def is_sampled(context):
    return context["wsgi_environ"]["PATH_INFO"] != "/unsampled/"


transport = RecordingTransport()
sentry_sdk.init(
    transport=transport,
    traces_sampler=is_sampled,
    integrations=[DjangoIntegration(middleware_spans=False, signals_spans=False)],
)
stop = trace_slow_receivers(slower_than={THRESHOLD})
settings.configure(
    ALLOWED_HOSTS=["*"], INSTALLED_APPS=["altdispatch"], ROOT_URLCONF="__main__"
)
django.setup()

from asgiref.sync import async_to_sync
from django.core.wsgi import get_wsgi_application
from django.dispatch import Signal, receiver
from django.http import HttpResponse
from django.urls import path

ordered = Signal()
billed = Signal()
times = []


@receiver(ordered)
def quick(**kwargs):
    pass


@receiver(ordered)
def slow(**kwargs):
    times.append(time.time())
    time.sleep({2 * THRESHOLD})
    times.append(time.time())


@receiver(ordered)
def fail_slowly(**kwargs):
    time.sleep({2 * THRESHOLD})
    raise ValueError


@receiver(billed)
async def slow_async(**kwargs):
    await asyncio.sleep({2 * THRESHOLD})


def order(request):
    ordered.send_robust(sender=None)
    return HttpResponse()


def bill(request):
    with sentry_sdk.start_span(name="view"):
        async_to_sync(billed.asend)(sender=None)
    return HttpResponse()


urlpatterns = [path("order/", order), path("unsampled/", order), path("bill/", bill)]
application = get_wsgi_application()


def get(path):
    environ = {{"PATH_INFO": path}}
    setup_testing_defaults(environ)
    application(environ, lambda status, headers: None).close()


# # Without a transaction, in one that isn't sampled, and in two that are.
ordered.send_robust(sender=None)
get("/unsampled/")
times.clear()
get("/order/")
get("/bill/")
stop()
get("/order/")
sentry_sdk.flush()
print(json.dumps([transport.items["transaction"], times]))
"""


@pytest.fixture
def sent(run_python, implementation):
    """Return the envelopes' transactions, and when a receiver began and ended."""
    return json.loads(run_python(PROJECT).splitlines()[0])


def seconds(timestamp):
    return datetime.fromisoformat(timestamp).timestamp()


def test_spans(sent):
    (order, bill, last), times = sent
    assert order["transaction"] == last["transaction"] == "/order/"
    slow, failed = order["spans"]
    for span, name in (slow, "slow"), (failed, "fail_slowly"):
        assert span["description"] == f"__main__.{name}"
        assert span["op"] == "event.django"
        assert span["origin"] == "auto.event.altdispatch"
        assert span["data"]["signal"] == "__main__.ordered"
        assert span["parent_span_id"] == order["contexts"]["trace"]["span_id"]
    start, end, *_ = times
    moments = [
        *(seconds(order["start_timestamp"]), seconds(slow["start_timestamp"]), start),
        *(end, seconds(slow["timestamp"]), seconds(failed["start_timestamp"])),
        *(seconds(failed["timestamp"]), seconds(order["timestamp"])),
    ]
    for earlier, later in itertools.pairwise(moments):
        assert later > earlier - TOLERANCE
    assert slow.get("status") is None
    assert failed["status"] == "internal_error"
    # The span is inside that of the view.
    view, asynchronous = bill["spans"]
    assert view["description"] == "view"
    assert asynchronous["description"] == "__main__.slow_async"
    assert asynchronous["parent_span_id"] == view["span_id"]
    assert asynchronous["data"]["signal"] == "__main__.billed"
    # stop() was called before this request.
    assert last["spans"] == []


def test_no_span_in_a_stream(run_python, implementation):
    """Spans of a stream can't start in the past, so none are created."""
    options = '_experiments={"trace_lifecycle": "stream"},'
    program = PROJECT.replace("sentry_sdk.init(", f"sentry_sdk.init({options}")
    output = run_python(program.replace('items["transaction"]', 'items["span"]'))
    sent, times = json.loads(output.splitlines()[0])
    names = [span["name"] for each in sent for span in each["items"]]
    assert names.count("/order/") == 2
    assert not any(name.startswith("__main__.") for name in names)
    assert len(times) == 4
    assert "altdispatch.monitoring failed" not in output
