"""What does a request cost, from the handler's call to its response's close?

Only Django's own receivers are connected. Nothing is sent over a network. Requests to
the ASGI handler are measured in CPU time, of all threads.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from time import process_time
from wsgiref.util import setup_testing_defaults

from pyperf import perf_counter

from benchmarks.rows import Body, Row

TITLE = "A request"

BOOKS = 25


def serve(application, path: str) -> str:
    """Put one GET request to the application and return status and body."""
    environ = {"PATH_INFO": path, "wsgi.input": BytesIO()}
    setup_testing_defaults(environ)
    statuses = []

    def start_response(status, headers, exc_info=None):
        statuses.append(status)

    response = application(environ, start_response)
    body = b"".join(response).decode()
    response.close()
    return f"{statuses[0]} {body}"


@contextmanager
def requesting(path: str) -> Iterator[Body]:
    """Ask the shop for a path; it has some books."""
    # Models can be imported only once Django is set up, in a worker.
    from django.core.handlers.wsgi import WSGIHandler

    from benchmarks.shop.models import Book

    application = WSGIHandler()

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            serve(application, path)
        return perf_counter() - start

    Book.objects.bulk_create(
        Book(title=f"Title {number}", pages=number) for number in range(BOOKS)
    )
    try:
        yield Body(time=time, answer=lambda: serve(application, path))
    finally:
        Book.objects.all().delete()


async def serve_asynchronously(application, path: str) -> str:
    """Put one GET request to the ASGI application and return status and body."""
    headers = [(b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    received = iter([{"type": "http.request"}])
    sent = []

    async def receive():
        for message in received:
            return message
        # The client stays.
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await application(scope, receive, send)
    start, body = sent
    return f"{start['status']} {body['body'].decode()}"


@contextmanager
def requesting_asynchronously(path: str, **settings: object) -> Iterator[Body]:
    """Ask the shop for a path, under ASGI and with these settings."""
    from django.core.handlers.asgi import ASGIHandler
    from django.test import override_settings

    async def measure(loops: int) -> float:
        passes = range(loops)
        start = process_time()
        for _ in passes:
            await serve_asynchronously(application, path)
        return process_time() - start

    with override_settings(**settings):
        application = ASGIHandler()
        yield Body(
            time=lambda loops: asyncio.run(measure(loops)),
            answer=lambda: asyncio.run(serve_asynchronously(application, path)),
        )


ROWS = [
    Row("request, a line of text", partial(requesting, "/"), headline=True),
    Row(
        f"request, a page of {BOOKS} instances",
        partial(requesting, "/books/"),
        headline=True,
    ),
    Row(
        "asynchronous request, a line of text, no middleware",
        partial(requesting_asynchronously, "/async/", MIDDLEWARE=[]),
        headline=True,
    ),
    Row(
        "asynchronous request, a line of text, 4 middleware",
        partial(requesting_asynchronously, "/async/"),
    ),
]
