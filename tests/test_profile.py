"""``manage.py altdispatch profile``: what it measures, and what it says."""

from __future__ import annotations

import functools
import gc
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import weakref
from html.parser import HTMLParser

import pytest
from django.dispatch import Signal

from altdispatch import monitoring
from altdispatch.profile_page import make_page
from altdispatch.profile_report import give_title, give_verdict
from altdispatch.profiling import LongestCalls, Profile
from altdispatch.timeline import MOST_CALLS

from .conftest import ROOT
from .implementations import COUNTS_REFERENCES


def make_profile(stock, swapped, **changes):
    signal = {"name": "a.signal", "sends": 1, "unheard": 1, "receivers": []}
    found = {
        "work": "GET /",
        "times": len(stock),
        "stock": stock,
        "swapped": swapped,
        "status": 200,
        "signals": [signal],
        "calls": len(changes.get("timeline", [])),
        "timeline": [],
    }
    return Profile(**{**found, **changes})


@pytest.mark.parametrize(
    ("stock", "swapped", "verdict"),
    [
        (
            [1.0] * 20,
            [0.9] * 20,
            "Worth it here: altdispatch saves 100 ms of 1 s, 10.0%",
        ),
        ([1.0] * 20, [0.999] * 20, "Not worth it here: altdispatch saves 1 ms of 1 s"),
        (
            [1.0] * 20,
            [1.1] * 10 + [1.2] * 10,
            "Not worth it here: altdispatch is slower by 150 ms of 1 s, 15.0% "
            "(95 %: 100 ms to 200 ms).",
        ),
        (
            [1.0, 1.2] * 10,
            [1.2, 1.0] * 10,
            "Not worth it here: no measurable difference (0 µs of 1.1 s, 0.0%; "
            "95 %: -200 ms to 200 ms).",
        ),
        ([1.0] * 5, [0.9] * 5, "Not worth it here: no measurable difference (100 ms"),
        ([1.0] * 5, [1.1] * 5, "Not worth it here: no measurable difference (-100 ms"),
        ([1.0] * 19 + [9.0], [0.9] * 20, "Worth it here: altdispatch saves 100 ms of"),
    ],
)
def test_verdict(stock, swapped, verdict):
    said = give_verdict(make_profile(stock, swapped))
    assert said.startswith(verdict)
    assert "\n" not in said


def test_verdict_without_signals():
    found = make_profile([1.0], [1.0], signals=[])
    assert give_verdict(found) == "Not worth it here: no signal is sent."


def test_bounds_of_what_is_saved():
    """95 % of such samples have the true median between these of their values."""
    swapped = [0.0] * 100
    found = make_profile([float(number) for number in range(100)], swapped)
    assert found.saved() == (49.5, 39.0, 60.0)
    assert make_profile([1.0], [3.0]).saved() == (-2.0, -2.0, -2.0)


def test_title_of_another_status():
    assert "not 200" not in give_title(make_profile([1.0], [1.0]))
    assert "The status is 302, not 200" in give_title(
        make_profile([1.0], [1.0], status=302)
    )


class Reader(HTMLParser):
    """Notes tags, attributes and text, and fails where a tag isn't closed."""

    def __init__(self):
        super().__init__()
        self.open, self.calls, self.text, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [
            attributes[each] for each in ("src", "href") if each in attributes
        ]
        if "call" in attributes.get("class", ""):
            self.calls.append(attributes)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def call(receiver, start, duration, has_failed=False):
    return {
        "signal": "s",
        "receiver": receiver,
        "start": start,
        "duration": duration,
        "has_failed": has_failed,
    }


def read_page(**changes):
    reader = Reader()
    reader.feed(make_page(make_profile([1.0], [1.0], **changes)))
    return reader


def find_tops(reader):
    return [re.search(r"top: (\S+)rem", each["style"])[1] for each in reader.calls]


def test_page():
    timeline = [
        call("outer", 5.0, 4.0),
        call("inner", 5.5, 2.0),
        call("innermost", 6.0, 1.0, has_failed=True),
        call("<lambda>", 8.0, 0.5),
        call("last", 9.0, 1.0),
    ]
    page = make_page(make_profile([1.0], [1.0], timeline=timeline))
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.links == []
    assert "url(" not in page
    assert "@import" not in page
    assert find_tops(reader) == ["0.0", "1.4", "2.8", "1.4", "0.0"]
    lefts = [re.search(r"left: (\S+)%", each["style"])[1] for each in reader.calls]
    assert [float(left) for left in lefts] == [0, 10, 20, 60, 80]
    assert [each["class"] for each in reader.calls].count("call failed") == 1
    assert reader.calls[3]["title"].startswith("<lambda>, for s: 500 ms")
    assert "calls are shown" not in page


def test_page_of_concurrent_calls():
    """A call that is still running is not drawn over by the next, which ends later."""
    timeline = [call("a", 0.0, 10.0), call("b", 1.0, 11.0), call("c", 2.0, 1.0)]
    assert find_tops(read_page(timeline=timeline)) == ["0.0", "1.4", "2.8"]


def test_page_of_many_calls():
    reader = read_page(timeline=[call("a", 0.0, 10.0)], calls=1200)
    assert "Only the longest 1 of 1,200 calls are shown." in "".join(reader.text)


def find_longest(spans):
    """Return the calls that are kept of those with these starts and durations."""
    longest, signal = LongestCalls(), Signal()
    for start, duration in spans:
        times = start, 0, duration, duration
        longest.add(monitoring.Call(signal, None, print, *times, None, False))
    assert longest.count == len(spans)
    return [(call["start"], call["duration"]) for call in longest.describe()]


def test_longest_calls_are_kept():
    # Two of each duration.
    spans = [(-number, number // 2) for number in range(3 * MOST_CALLS)]
    mixed = random.Random(1).sample(spans, len(spans))
    assert find_longest(mixed) == spans[: 2 * MOST_CALLS - 1 : -1]


def test_outer_calls_come_before_inner_ones():
    assert find_longest([(5.0, 1.0), (5.0, 2.0)]) == [(5.0, 2.0), (5.0, 1.0)]


class Sender:
    pass


class Refused(Exception):
    """An exception that weak references can refer to."""


@pytest.mark.skipif(not COUNTS_REFERENCES, reason="needs reference counts")
def test_longest_calls_keep_nothing_alive(implementation, Signal):
    def receiver(sender, **kwargs):
        raise Refused

    signal, sender = Signal(), Sender()
    signal.connect(receiver)
    alive = [weakref.ref(sender), weakref.ref(receiver)]
    longest = LongestCalls()
    with monitoring.subscribe(longest.add, slower_than=0):
        try:
            signal.send(sender)
        except Refused as error:
            alive.append(weakref.ref(error))
    del sender, receiver
    gc.collect()
    assert [each() for each in alive] == [None] * 3
    (call,) = longest.describe()
    assert call["has_failed"] is True
    assert call["receiver"].endswith("<locals>.receiver")


# The command, in a project.

PROJECT = {
    "settings.py": """\
        SECRET_KEY = "x"
        ALLOWED_HOSTS = ["*", ".example.com"]
        INSTALLED_APPS = [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "work",
            "altdispatch",
        ]
        DATABASES = {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "database"}
        }
        ROOT_URLCONF = "urls"
        WSGI_APPLICATION = "wsgi.application"
        MIDDLEWARE = [
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ]
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

        def posted(request):
            assert request.method == "POST"
            assert request.POST["a"] == "b c"
            assert request.headers["X-One"] == "1"
            assert request.user.username == "ann"
            assert "asgi" in str(type(request)).lower()
            return HttpResponse(status=201)

        urlpatterns = [
            path("posted/", posted),
            path("answer/", answer),
            path("missing/", missing),
            path("moved/", moved),
            path("café/", lambda request: HttpResponse("ß")),
        ]
    """,
    "wsgi.py": """\
        from django.core.wsgi import get_wsgi_application

        django = get_wsgi_application()

        def application(environ, start_response):
            answer = django(environ, start_response)
            if not environ["PATH_INFO"].startswith("/caf"):
                return answer
            # It need not have a close().
            body = [*answer]
            answer.close()
            return body
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
                parser.add_argument("--times", type=int, default=1)

            def handle(self, end, times, **options):
                with Path("runs").open("a") as file:
                    print(altdispatch.is_installed(), file=file)
                self.stdout.write("working")
                for _ in range(times):
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
        path.write_text(textwrap.dedent(content), encoding="utf-8")

    def run_python(*arguments, exit_code=0):
        process = subprocess.run(
            [sys.executable, "-m", *arguments],
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

    run = functools.partial(run_python, "altdispatch", "profile")
    run.manage = functools.partial(run_python, "django")
    return run


def row_of(name, output):
    """Return what is in the columns of a signal or receiver."""
    (row,) = re.findall(rf"^  {re.escape(name)} (.*)$", output, re.MULTILINE)
    return row.split()


def test_profile_of_a_command(profile, tmp_path):
    output = profile("--", "work")
    runs = (tmp_path / "runs").read_text().split()
    assert runs == ["True", "False", "True"]
    assert output.startswith("work: ")
    assert row_of("work.happened", output) == ["10", "0", "20"]
    # It has no name of its own.
    assert row_of("django.dispatch.dispatcher.Signal", output) == ["1", "1", "0"]
    own, _, total, _, calls, *_, errors, signal = row_of("work.receiver", output)
    assert (own, calls, errors, signal) == (total, "10", "0", "work.happened")
    assert "work.async_receiver" in output
    assert "\nReceivers, per run\n" in output
    last = output.splitlines()[-1]
    assert last.startswith("Not worth it here: no measurable difference (")
    assert "working" not in output


@pytest.mark.parametrize("handler", [(), ("--asgi",)])
def test_profile_of_requests(profile, tmp_path, handler):
    output = profile("--url", "/answer/?page=2", "--requests", "12", *handler)
    assert output.startswith("GET /answer/?page=2: status 200, ")
    assert "not 200" not in output
    assert "\nReceivers, per request\n" in output
    assert row_of("work.happened", output) == ["11", "1", "20"]
    assert row_of("django.core.signals.request_started", output)[0] == "1"
    assert "orth it here: " in output.splitlines()[-1]
    # Before those that count, with monitoring, on each side, and after each swap.
    requests = (tmp_path / "requests").read_text().splitlines()
    assert len(requests) == 3 + 3 * 12 + 4


@pytest.mark.parametrize("handler", [(), ("--asgi",)])
@pytest.mark.parametrize("path", ["/café/", "/caf%C3%A9/"])
def test_profile_of_a_path_outside_ascii(profile, path, handler):
    output = profile("--url", path, "--requests", "1", *handler)
    assert output.startswith(f"GET {path}: status 200, ")


def test_profile_of_a_form(profile):
    profile.manage("migrate")
    program = (
        "from django.contrib.auth.models import User; User.objects.create(username"
    )
    profile.manage("shell", "-c", f"{program}='ann')")
    post = ["--url", "/posted/", "--method", "post", "--data", "a=b+c", "--asgi"]
    post += ["--header", "X-One: 1", "--requests", "2"]
    found = json.loads(profile(*post, "--user", "ann", "--json"))
    assert (found["work"], found["status"]) == ("POST /posted/", 201)
    assert len(found["stock"]) == len(found["swapped"]) == found["times"] == 2
    # No session is left, and no login was sent.
    program = (
        "from django.contrib.sessions.models import Session; print(Session.objects"
    )
    assert profile.manage("shell", "-c", f"{program}.count())").split()[-1] == "0"
    assert "There is no user 'bob'" in profile(*post, "--user", "bob", exit_code=1)


def test_profile_as_a_page(profile, tmp_path):
    profile("--html", str(tmp_path / "page.html"), "--", "work")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "work.receiver, for work.happened" in page
    assert "Timeline of one run" in page


def test_profile_of_many_calls(profile):
    found = json.loads(profile("--json", "--", "work", "--times", "60"))
    assert found["calls"] == 1200
    assert len(found["timeline"]) == MOST_CALLS
    order = [(call["start"], -call["duration"]) for call in found["timeline"]]
    assert order == sorted(order)


def test_profile_of_a_redirect(profile):
    output = profile("--url", "/moved/", "--requests", "1")
    assert "The status is 302, not 200" in output


def test_profile_of_a_command_that_exits(profile):
    assert "work.happened" in profile("--", "work", "--end", "good")


def test_profile_without_signals(profile):
    assert "no signal is sent" in profile("--", "help")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "either --url PATH or -- COMMAND"),
        (["--url", "/", "--", "work"], "either --url PATH or -- COMMAND"),
        (["--url", "/", "--requests", "0"], "--requests must be at least 1"),
        (["--url", "/", "--header", "X-One"], "'NAME: VALUE', not 'X-One'"),
        (["--url", "/", "--header", ": 1"], "'NAME: VALUE', not ': 1'"),
        (["--url", "/missing/"], "GET /missing/ was 404"),
        (["--", "work", "--end", "exit"], "ended with 3"),
        (["--", "work", "--end", "error"], "KeyError: 'this'"),
        (["--", "wrok"], "Unknown command: 'wrok'"),
    ],
)
def test_profile_of_what_fails(profile, arguments, error):
    assert error in profile(*arguments, exit_code=1)
