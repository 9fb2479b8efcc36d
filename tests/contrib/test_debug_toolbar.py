"""Test that the panel of django-debug-toolbar shows the calls of one request."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest

# Two concurrent requests: a receiver waits until the other request's is called.
PROJECT = """
import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DEBUG=True,
    DEBUG_TOOLBAR_PANELS=["altdispatch.contrib.debug_toolbar.ReceiversPanel"],
    INSTALLED_APPS=["altdispatch", "django.contrib.staticfiles", "debug_toolbar"],
    INTERNAL_IPS=["127.0.0.1"],
    MIDDLEWARE=["debug_toolbar.middleware.DebugToolbarMiddleware"],
    ROOT_URLCONF="__main__",
    STATIC_URL="static/",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
        }
    ],
)
django.setup()

from asgiref.sync import sync_to_async
from debug_toolbar.toolbar import debug_toolbar_urls
from django.dispatch import Signal, receiver
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

ordered = Signal()
billed = Signal()


class One:
    pass


class Two:
    pass


SENDERS = {"one": One, "two": Two}


def page():
    return HttpResponse("<body></body>")


def show(html):
    (request_id,) = re.findall(r'data-request-id="(\\w+)"', html)
    (subtitle,) = re.findall(r"\\d+ calls in [\\d.]+\\sms", html)
    query = {"request_id": request_id, "panel_id": "ReceiversPanel"}
    response = Client().get("/__debug__/render_panel/", query)
    return [subtitle, response.json()["content"]]
"""
IN_THREADS = """
both = threading.Barrier(2, timeout=60)


@receiver(ordered)
def bill(sender, **kwargs):
    both.wait()
    billed.send_robust(sender)


@receiver(billed)
def write_bill(**kwargs):
    both.wait()
    raise ValueError


def order(request, name):
    ordered.send(SENDERS[name])
    return page()


def get(name):
    return Client().get(f"/{name}/").content.decode()


urlpatterns = [path("<name>/", order), *debug_toolbar_urls()]
with ThreadPoolExecutor(2) as threads:
    print(json.dumps([show(html) for html in threads.map(get, SENDERS)]))
"""
IN_TASKS = """
both = asyncio.Barrier(2)


@receiver(ordered)
async def bill(sender, **kwargs):
    await both.wait()
    await sync_to_async(billed.send_robust)(sender)


@receiver(billed)
def write_bill(**kwargs):
    raise ValueError


async def order(request, name):
    await ordered.asend(SENDERS[name])
    return page()


async def get(name):
    return (await AsyncClient().get(f"/{name}/")).content.decode()


async def get_both():
    return await asyncio.gather(*map(get, SENDERS))


urlpatterns = [path("<name>/", order), *debug_toolbar_urls()]
print(json.dumps([show(html) for html in asyncio.run(get_both())]))
"""
QUIET = """
urlpatterns = [path("", lambda request: page()), *debug_toolbar_urls()]
print(json.dumps(show(Client().get("/").content.decode())))
"""
MANY = """
@receiver(ordered)
def bill(**kwargs):
    pass


def order(request):
    for _ in range(1200):
        ordered.send(None)
    return page()


urlpatterns = [path("", order), *debug_toolbar_urls()]
print(json.dumps(show(Client().get("/").content.decode())))
"""


@pytest.fixture
def run(run_python, implementation):
    """Return the first line that a program prints, before its errors."""
    return lambda program: json.loads(run_python(PROJECT + program).splitlines()[0])


def read_rows(content):
    """Return the rows of all tables, as the texts of their cells."""
    return [
        [
            " ".join(unescape(re.sub("<.*?>", " ", cell)).split())
            for cell in re.findall("<td.*?>(.*?)</td>", row, re.S)
        ]
        for row in re.findall("<tr.*?>(.*?)</tr>", content, re.S)
        if "<td" in row
    ]


@pytest.mark.parametrize(
    ("program", "remark"), [(IN_THREADS, ""), (IN_TASKS, " (asynchronous)")]
)
def test_only_the_calls_of_the_request(run, program, remark):
    for sender, (subtitle, content) in zip(("One", "Two"), run(program), strict=True):
        assert subtitle.startswith("2 calls in ")
        *signals, outer, inner = read_rows(content)
        assert [row[:3] for row in signals] == [
            ["__main__.ordered", "1", "0"],
            ["__main__.billed", "1", "1"],
        ]
        assert outer[2:] == [
            f"__main__.bill{remark}",
            "ordered",
            sender,
        ]
        # The inner call is inside the outer one, and has failed.
        receiver, error = inner[2].split()
        assert (receiver, error) == ("__main__.write_bill", "ValueError")
        assert "\N{EM SPACE}__main__.write_bill" in content
        assert inner[3:] == ["billed", sender]
        assert float(outer[1].split()[0]) >= float(inner[1].split()[0])


def test_a_request_without_receivers(run):
    subtitle, content = run(QUIET)
    assert subtitle == "0 calls in 0.000\N{NO-BREAK SPACE}ms"
    assert "No receivers were called during this request." in content
    assert "<svg" not in content


def test_many_calls(run):
    """The panel counts all calls, but draws only the longest."""
    subtitle, content = run(MANY)
    assert subtitle.startswith("1200 calls in ")
    assert "The longest 500 of 1200." in content
    signal, *calls = read_rows(content)
    assert signal[1] == "1200"
    assert len(calls) == content.count("<title>") == 500
    starts = [float(start.split()[0]) for start, *_ in calls]
    assert starts == sorted(starts)
