"""What does a request cost, from the WSGI handler's call to its response's close?

Only Django's own receivers are connected. Nothing is sent over a network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
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


ROWS = [
    Row("request, a line of text", partial(requesting, "/"), headline=True),
    Row(
        f"request, a page of {BOOKS} instances",
        partial(requesting, "/books/"),
        headline=True,
    ),
]
