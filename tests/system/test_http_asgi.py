"""HTTP: requests to an ASGI server."""

import gc
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import django
import pytest
from django.core.signals import request_finished, request_started

from .recording import TIMEOUT, connected
from .serving import Client, describe_context, serve_asgi
from .shop import views

STARTED_AND_FINISHED = ["request_started", "request_finished"]
FAILED = ["request_started", "got_request_exception", "request_finished"]


@pytest.fixture
def compare_served(compare, record, new_database):
    """Run ``compare`` with a scenario that gets a client of the server.

    By default, each signal has an asynchronous receiver too.
    """

    def run_both(scenario, *args, asynchronous=True, **kwargs):
        def run():
            views.has_arrived.clear()
            views.closing_messages.clear()
            with new_database(), serve_asgi() as port:
                result = scenario(Client(port, record))
            return result, list(views.closing_messages)

        options = {"view": describe_context, "asynchronous": asynchronous}
        seen = compare(run, *args, **options, **kwargs)
        if asynchronous:
            assert [call.signal for call in seen.async_calls[::2]] == seen.signals()
        assert all(call.view["on a loop"] for call in seen.async_calls)
        return seen

    return run_both


def test_requests(compare_served):
    def scenario(client):
        return (
            client.visit("GET", "/echo/"),
            client.visit("POST", "/echo/", "a body"),
            client.visit("GET", "/async/echo/"),
            client.visit("POST", "/async/echo/", "a body"),
            client.visit("GET", "/nowhere/"),
        )

    seen = compare_served(
        scenario, sent=STARTED_AND_FINISHED, unsent=["got_request_exception"]
    )
    assert [status for status, *_ in seen.result[0]] == [200, 200, 200, 200, 404]
    assert seen.signals() == STARTED_AND_FINISHED * 5
    assert seen.of("request_started")[1].get("scope") == ("http", "POST", "/echo/")


def test_the_database_is_closed(compare_served):
    """Django's own receivers close it at the start and the end of a request."""

    def scenario(client):
        return client.visit("GET", "/echo/"), client.visit("GET", "/async/echo/")

    seen = compare_served(scenario, sent=[*STARTED_AND_FINISHED, "connection_created"])
    views = [(call.signal, call.view["database open"]) for call in seen.calls[::2]]
    assert (
        views
        == [
            ("request_started", False),
            ("connection_created", True),
            ("request_finished", False),
        ]
        * 2
    )


def test_errors(compare_served):
    def scenario(client):
        return (
            client.visit("GET", "/fail/"),
            client.visit("GET", "/async/fail/"),
            client.visit("GET", "/refuse/"),
        )

    seen = compare_served(scenario, sent=FAILED)
    assert [status for status, *_ in seen.result[0]] == [500, 500, 400]
    assert seen.signals() == [*FAILED, *FAILED, *STARTED_AND_FINISHED]


def test_streams(compare_served):
    def scenario(client):
        return client.visit("GET", "/async/stream/")

    seen = compare_served(scenario, sent=[*STARTED_AND_FINISHED, "connection_created"])
    assert seen.result[0][2] == b"one of the database"
    # The view uses its database only when the body is made.
    assert seen.signals() == [
        *("request_started", "connection_created", "request_finished")
    ]


def test_concurrent_requests(compare_served):
    """Requests finish in any order, so only the numbers of signals are compared."""
    paths = ["/echo/", "/async/echo/", "/fail/", "/async/stream/"] * 4

    def scenario(client):
        started = Counter()
        finished = threading.Semaphore(0)

        def start(scope, **kwargs):
            started["sync", scope["path"]] += 1

        async def start_asynchronously(scope, **kwargs):
            started["async", scope["path"]] += 1

        def finish(sender, **kwargs):
            finished.release()

        with (
            connected(request_started, start, start_asynchronously),
            connected(request_finished, finish),
            ThreadPoolExecutor(len(paths)) as pool,
        ):
            responses = list(pool.map(partial(client.request, "GET"), paths))
            for _ in paths:
                assert finished.acquire(timeout=TIMEOUT)
        return responses, [[*key, number] for key, number in sorted(started.items())]

    seen = compare_served(scenario)
    responses, started = seen.result[0]
    assert [status for status, *_ in responses] == [200, 200, 500, 200] * 4
    assert [number for *_, number in started] == [4] * 8


def test_client_that_disconnects_before_the_response(compare_served):
    def scenario(client):
        with client.disconnecting("/async/wait/"):
            assert views.has_arrived.wait(TIMEOUT)
        client.wait_until_finished()
        return client.visit("GET", "/echo/")

    seen = compare_served(scenario, sent=STARTED_AND_FINISHED)
    assert seen.result[1] == ["the view was cancelled"]
    assert seen.signals() == STARTED_AND_FINISHED * 2


def test_client_that_disconnects_during_a_stream(compare_served):
    def scenario(client):
        with client.disconnecting("/async/stream-on/") as connection:
            response = b""
            while not response.endswith(b"on and \r\n"):
                received = connection.recv(1000)
                assert received
                response += received
        client.wait_until_finished()
        return client.visit("GET", "/echo/")

    seen = compare_served(scenario, sent=STARTED_AND_FINISHED)
    assert seen.result[1] == ["the stream was closed"]
    assert seen.signals() == STARTED_AND_FINISHED * 2


def test_client_that_disconnects_during_its_request(compare_served):
    def scenario(client):
        with client.disconnecting("/echo/", "Content-Length: 10\r\n") as connection:
            connection.sendall(b"never")
        return client.visit("GET", "/echo/")

    seen = compare_served(scenario, sent=STARTED_AND_FINISHED)
    # The incomplete request sends no signals.
    assert seen.signals() == STARTED_AND_FINISHED


def test_context_variables_set_by_receivers(compare_served):
    def set_visitor(scope, **kwargs):
        views.visitor.set(views.visitor.get() + " came")

    async def set_visitor_asynchronously(scope, **kwargs):
        views.visitor.set(views.visitor.get() + " came asynchronously")

    def scenario(client):
        responses = []
        receivers = [set_visitor, set_visitor_asynchronously]
        for connected_receivers in (receivers[:1], receivers[1:], receivers):
            with connected(request_started, *connected_receivers):
                responses += [
                    client.visit("GET", "/echo/"),
                    client.visit("GET", "/async/echo/"),
                ]
        return responses

    seen = compare_served(scenario, sent=STARTED_AND_FINISHED)
    bodies = [body for *_, body in seen.result[0]]
    if django.VERSION >= (6, 1):
        assert bodies[:4] == [
            *[b"GET  nobody came of the database"] * 2,
            *[b"GET  nobody came asynchronously of the database"] * 2,
        ]
    else:
        assert bodies == [b"GET  nobody of the database"] * 6


# Before Django 6.1, the handler doesn't close the request's body if a receiver fails.
@pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_errors_in_receivers(compare_served, asynchronous):
    def refuse(sender, **kwargs):
        raise LookupError("refused by a receiver")

    async def refuse_asynchronously(sender, **kwargs):
        raise LookupError("refused by a receiver")

    receiver = refuse_asynchronously if asynchronous else refuse

    def scenario(client):
        with connected(request_started, receiver):
            at_start = client.request("GET", "/echo/")
        with connected(request_finished, receiver):
            at_end = client.visit("GET", "/echo/")
        return at_start, at_end, client.visit("GET", "/echo/")

    # The record has no asynchronous receivers: they aren't called after an error.
    seen = compare_served(scenario, sent=STARTED_AND_FINISHED, asynchronous=False)
    for _ in range(3):
        # PyPy runs finalizers step by step.
        gc.collect()
    assert [status for status, *_ in seen.result[0]] == [500, 200, 200]
