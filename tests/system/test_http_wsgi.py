"""HTTP: requests to a WSGI server."""

import pytest
from django.core.signals import request_finished, request_started

from .recording import connected
from .serving import Client, describe_context, serve_wsgi
from .shop import views

STARTED_AND_FINISHED = ["request_started", "request_finished"]
FAILED = ["request_started", "got_request_exception", "request_finished"]


@pytest.fixture
def compare_served(compare, record, new_database):
    """Run ``compare`` with a scenario that gets a client of the server."""

    def run_both(scenario, *args, **kwargs):
        def run():
            with new_database(), serve_wsgi() as port:
                return scenario(Client(port, record))

        return compare(run, *args, view=describe_context, **kwargs)

    return run_both


def test_requests(compare_served):
    def scenario(client):
        return (
            client.visit("GET", "/echo/"),
            client.visit("POST", "/echo/", "a body"),
            client.visit("GET", "/async/echo/"),
            client.visit("GET", "/download/"),
            client.visit("GET", "/nowhere/"),
        )

    seen = compare_served(
        scenario, sent=STARTED_AND_FINISHED, unsent=["got_request_exception"]
    )
    assert [status for status, *_ in seen.result] == [200, 200, 200, 200, 404]
    assert seen.signals() == STARTED_AND_FINISHED * 5
    assert seen.of("request_started")[1].get("environ") == ("POST", "/echo/")


def test_the_database_is_closed(compare_served):
    """Django's own receivers close it at the start and the end of a request."""

    def scenario(client):
        return [client.visit("GET", "/echo/") for _ in range(2)]

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
    assert [status for status, *_ in seen.result] == [500, 500, 400]
    assert seen.signals() == [*FAILED, *FAILED, *STARTED_AND_FINISHED]
    assert seen.of("got_request_exception")[0].get("request") == (
        *("request", "GET", "/fail/"),
    )


def test_streams(compare_served):
    def scenario(client):
        return client.visit("GET", "/stream/")

    seen = compare_served(scenario, sent=[*STARTED_AND_FINISHED, "connection_created"])
    assert seen.result[2] == b"one of the database"
    # The view uses its database only when the body is made.
    assert seen.signals() == [
        *("request_started", "connection_created", "request_finished")
    ]


def test_client_that_disconnects(compare_served):
    def scenario(client):
        views.closing_messages.clear()
        with client.disconnecting("/stream-on/") as connection:
            response = connection.recv(1)
        client.wait_until_finished()
        return response, list(views.closing_messages), client.visit("GET", "/echo/")

    seen = compare_served(scenario, sent=STARTED_AND_FINISHED)
    assert seen.result[:2] == [b"H", ["the stream was closed"]]
    assert seen.signals() == STARTED_AND_FINISHED * 2


def test_asynchronous_receivers(compare_served):
    def scenario(client):
        return client.visit("GET", "/echo/"), client.visit("GET", "/fail/")

    seen = compare_served(scenario, sent=FAILED, asynchronous=True)
    assert [call.signal for call in seen.async_calls[::2]] == [
        *STARTED_AND_FINISHED,
        *FAILED,
    ]
    assert all(call.view["on a loop"] for call in seen.async_calls)


def test_context_variables_set_by_receivers(compare_served):
    def set_visitor(environ, **kwargs):
        views.visitor.set(views.visitor.get() + " came")

    async def set_visitor_asynchronously(environ, **kwargs):
        views.visitor.set(views.visitor.get() + " came asynchronously")

    def scenario(client):
        receivers = [set_visitor, set_visitor_asynchronously]
        with connected(request_started, *receivers):
            return [client.visit("GET", "/echo/") for _ in range(2)]

    seen = compare_served(scenario, sent=STARTED_AND_FINISHED)
    assert b"nobody came" in seen.result[0][2]


def test_errors_in_receivers(compare_served):
    def refuse(sender, **kwargs):
        raise LookupError("refused by a receiver")

    def scenario(client):
        with connected(request_started, refuse):
            at_start = client.request("GET", "/echo/")
        with connected(request_finished, refuse):
            at_end = client.visit("GET", "/echo/")
        return at_start, at_end, client.visit("GET", "/echo/")

    seen = compare_served(scenario, sent=STARTED_AND_FINISHED)
    assert [status for status, *_ in seen.result] == [500, 200, 200]
