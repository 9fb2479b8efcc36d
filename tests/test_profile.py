"""``manage.py altdispatch profile``: what it counts, and what it says."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import threading

import django.dispatch
import pytest

import altdispatch
from altdispatch.counting import Counts, Kind
from altdispatch.profiling import Work, _merge, cost

from .conftest import ROOT


class Sender:
    pass


class Other:
    pass


def receiver(**kwargs):
    return "called"


async def async_receiver(**kwargs):
    return "awaited"


@pytest.fixture(params=["stock", "swapped"])
def signal(request, implementation):
    if request.param == "swapped":
        assert altdispatch.install()
    signal = django.dispatch.Signal()
    signal.connect(receiver, sender=Sender)
    signal.connect(async_receiver)
    yield signal
    altdispatch.uninstall()


def kind(method, receivers, async_receivers, names=0, connected=2):
    return Kind(method, False, connected, receivers, async_receivers, names)


def test_counts(signal):
    counts = Counts()
    before = dict(vars(django.dispatch.Signal))
    with counts.counting():
        both = [(receiver, "called"), (async_receiver, "awaited")]
        # What is counted is called and answers as before.
        assert signal.send(Sender) == both
        assert signal.send(sender=Sender) == both
        assert signal.send(Other, a=1, b=2) == both[1:]
        assert signal.send_robust(Sender, a=1) == both
        assert asyncio.run(signal.asend(Sender)) == both
        assert asyncio.run(signal.asend_robust(Other)) == both[1:]
        assert signal.has_listeners() is signal.has_listeners(Sender) is True
        assert django.dispatch.Signal().send(Sender) == []
    signal.send(Sender)
    assert dict(vars(django.dispatch.Signal)) == before
    assert counts.kinds.pop(signal) == {
        kind("send", 1, 1): 2,
        kind("send", 0, 1, names=2): 1,
        kind("send_robust", 1, 1, names=1): 1,
        kind("asend", 1, 1): 1,
        kind("asend_robust", 0, 1): 1,
        kind("has_listeners", 0, 1): 1,
        kind("has_listeners", 1, 1): 1,
    }
    assert [*counts.kinds.values()] == [{kind("send", 0, 0, connected=0): 1}]


def test_counts_of_arguments_of_any_name(signal):
    named = {"name": 1, "method": 2, "patch": 3, "args": 4, "named": 5}
    counts = Counts()
    with counts.counting():
        signal.send(Sender, **named)
        signal.send_robust(Sender, **named)
        asyncio.run(signal.asend(Sender, **named))
        asyncio.run(signal.asend_robust(Sender, **named))
    assert sum(counts.kinds[signal].values()) == 4


def test_counts_of_threads(signal):
    counts = Counts()

    def send():
        for _ in range(100):
            signal.send_robust(Other)

    signal.disconnect(async_receiver)
    with counts.counting():
        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts.kinds[signal] == {kind("send_robust", 0, 0, connected=1): 400}


def test_time_of_receivers(signal):
    """One that sends has the time of those that it waits for; the whole has it once."""
    inner = django.dispatch.Signal()
    released = threading.Event()

    def waits(**kwargs):
        released.wait(0.05)

    def sends(**kwargs):
        inner.send(Sender)

    inner.connect(waits)
    signal.disconnect(async_receiver)
    signal.connect(sends)
    counts = Counts()
    with counts.counting():
        signal.send(Sender)
    assert 0.04 < counts.seconds[inner] <= counts.seconds[signal]
    assert counts.outer_seconds == pytest.approx(counts.seconds[signal])


def test_receiver_that_fails_is_counted(signal):
    def fails(**kwargs):
        raise KeyError

    signal.disconnect(async_receiver)
    signal.connect(fails)
    counts = Counts()
    with counts.counting(), pytest.raises(KeyError):
        signal.send(Sender)
    assert counts.kinds[signal] == {kind("send", 2, 0): 1}


@pytest.mark.parametrize(
    "kind",
    [
        kind("send", 0, 0, connected=0),
        kind("send", 1, 1, names=3),
        kind("asend", 1, 1, names=3, connected=5),
        kind("send_robust", 2, 0, connected=1),
        kind("has_listeners", 1, 0, names=1),
        Kind("asend_robust", True, 2, 0, 2, 0),
    ],
)
@pytest.mark.usefixtures("implementation")
def test_cost(kind, monkeypatch):
    """It uses a signal as was counted, and has its receivers called."""
    counts = Counts()
    monkeypatch.setattr("altdispatch.profiling.SECONDS", 0)
    with counts.counting():
        assert cost(kind) > 0
    ((counted),) = counts.kinds.values()
    ((found, times),) = counted.items()
    assert times > 5
    assert (found.method, found.use_caching) == (kind.method, kind.use_caching)
    assert found.receivers == kind.receivers
    assert found.async_receivers == kind.async_receivers
    assert found.connected == max(kind.connected, kind.receivers)
    if kind.method != "has_listeners":
        assert found.names == kind.names


# The command, in a project.

PROJECT = {
    "settings.py": """\
        SECRET_KEY = "x"
        ALLOWED_HOSTS = ["*", ".example.com"]
        INSTALLED_APPS = ["work", "altdispatch"]
        ROOT_URLCONF = "urls"
        MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
        SECURE_SSL_REDIRECT = True
    """,
    "urls.py": """\
        from django.http import HttpResponse, StreamingHttpResponse
        from django.urls import path
        from work import happened, send

        def answer(request):
            happened.send(None)
            assert request.GET["page"] == "2"
            assert request.get_host() == "example.com"
            with open("requests", "a") as file:
                print(file=file)
            return StreamingHttpResponse(stream())

        def stream():
            yield "sending"
            send()

        def missing(request):
            return HttpResponse(status=404)

        def moved(request):
            return HttpResponse(status=302 if request.is_secure() else 400)

        urlpatterns = [
            path("answer/", answer),
            path("missing/", missing),
            path("moved/", moved),
        ]
    """,
    "work/__init__.py": """\
        from django.dispatch import Signal

        happened = Signal()
        hidden = [Signal()]

        def send():
            hidden[0].send(None)
            for number in range(10):
                happened.send(send, number=number)
            happened.has_listeners(send)

        def receiver(**kwargs):
            pass

        async def async_receiver(**kwargs):
            pass

        happened.connect(receiver, sender=send)
        happened.connect(async_receiver, sender=send)
    """,
    "work/management/__init__.py": "",
    "work/management/commands/__init__.py": "",
    "work/management/commands/work.py": """\
        import sys
        from pathlib import Path

        import altdispatch
        from django.core.management.base import BaseCommand
        from work import send

        class Command(BaseCommand):
            def add_arguments(self, parser):
                parser.add_argument("--end", choices=["good", "exit", "error"])

            def handle(self, end, **options):
                with Path("runs").open("a") as file:
                    print(altdispatch.is_installed(), file=file)
                self.stdout.write("working")
                send()
                if end == "good":
                    sys.exit()
                if end == "exit":
                    sys.exit(3)
                if end == "error":
                    raise KeyError("this")
    """,
}


@pytest.fixture
def profile(tmp_path):
    """Run ``manage.py altdispatch profile`` in a project; return what it wrote."""
    for name, content in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))

    def run(*arguments, exit_code=0):
        process = subprocess.run(
            [sys.executable, "-m", "altdispatch", "profile", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DJANGO_SETTINGS_MODULE": "settings",
            },
        )
        assert process.returncode == exit_code, process.stdout + process.stderr
        return process.stdout + process.stderr

    return run


def row_of(signal, output):
    """Return what is in the columns of a signal."""
    (row,) = re.findall(rf"^  {re.escape(signal)} (.*)$", output, re.MULTILINE)
    return row.split()


def seconds(text):
    number, unit = text.split()
    return float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]


def test_profile_of_a_command(profile, tmp_path):
    output = profile("--", "work")
    runs = (tmp_path / "runs").read_text().split()
    assert runs == ["False", "False", "True"]
    assert output.splitlines()[0] == "work"
    assert row_of("work.happened", output)[:3] == ["10", "1", "20"]
    # It has no name of its own.
    assert row_of("django.dispatch.dispatcher.Signal", output)[:3] == ["1", "0", "0"]
    assert re.search(r"^  dispatching .*s .*s$", output, re.MULTILINE)
    assert re.search(r"altdispatch dispatches \d+\.\d times as fast here", output)
    for step in ("counting", "on stock Django", "swapped"):
        assert f"work: {step}" in output
    assert "working" not in output


def test_profile_of_requests(profile, tmp_path):
    output = profile("--url", "/answer/?page=2", "--requests", "4")
    assert output.splitlines()[0] == "GET /answer/?page=2"
    assert "not 200" not in output
    assert "a request, median of 4" in output
    assert row_of("work.happened", output)[:3] == ["11", "1", "20"]
    # All of it is of each time, and no receiver waits for another.
    (whole,) = re.findall(r"^  receivers +(\S+ \S+) +the same$", output, re.MULTILINE)
    signals = re.findall(r"^  \S+ +\S+ +\S+ +\S+ +(\S+ \S+)  .*$", output, re.MULTILINE)
    assert sum(map(seconds, signals)) == pytest.approx(seconds(whole), rel=0.05)
    assert "django.core.signals.request_started" in output
    # What costs most comes first.
    assert output.index("work.happened") < output.index("request_started")
    for step in (
        "counting",
        "on stock Django, 1 of 3",
        "swapped, 1 of 3",
        "on stock Django, 3 of 3",
        "swapped, 3 of 3",
    ):
        assert f"GET /answer/?page=2: {step}\n" in output
    # Those of seven processes, and three before, so that these aren't the first.
    requests = (tmp_path / "requests").read_text().splitlines()
    assert len(requests) == 3 * 4 + 7 * 3


def test_profile_of_a_redirect(profile):
    output = profile("--url", "/moved/", "--requests", "1")
    assert "The answers had the status 302, not 200." in output


@pytest.mark.parametrize(
    ("requests", "parts"), [(1, [1]), (2, [1, 1]), (5, [1, 2, 2]), (9, [3, 3, 3])]
)
def test_parts_of_requests(requests, parts):
    work = Work(url="/", requests=requests)
    assert [part.requests for part in work.parts()] == parts
    assert all(part.url == "/" for part in work.parts())


def test_what_the_turns_have_found():
    """The times of all, and the least of what was the same work."""
    first = {"seconds": [0.5], "costs": [[3.0, 1.0], [], [2.0]]}
    second = {"seconds": [0.2, 0.1], "costs": [[1.0, 2.0], [], [4.0]]}
    assert _merge([first, second]) == {
        "seconds": [0.5, 0.2, 0.1],
        "costs": [[1.0, 1.0], [], [2.0]],
    }
    assert _merge([first]) == first


def test_profile_of_a_command_that_exits(profile):
    assert "work.happened" in profile("--", "work", "--end", "good")


def test_profile_without_signals(profile):
    assert "No signal is used" in profile("--", "help")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "either --url PATH or -- COMMAND"),
        (["--url", "/", "--", "work"], "either --url PATH or -- COMMAND"),
        (["--url", "/", "--requests", "0"], "at least one request"),
        (["--url", "/missing/"], "GET /missing/ was 404"),
        (["--", "work", "--end", "exit"], "ended with 3"),
        (["--", "work", "--end", "error"], "KeyError: 'this'"),
        (["--", "wrok"], "Unknown command: 'wrok'"),
    ],
)
def test_profile_of_what_fails(profile, arguments, error):
    assert error in profile(*arguments, exit_code=1)
