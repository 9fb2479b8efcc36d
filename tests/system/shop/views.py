"""Views of both kinds: that answer, fail, stream, and that never come to an end."""

import asyncio
import io
import itertools
import threading
from contextvars import ContextVar

from asgiref.sync import sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.db import connections
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

#: Who it is, for receivers to set and views to tell.
visitor = ContextVar("visitor", default="nobody")
#: What a view that nobody waits for any more has to say.
last_words = []
has_arrived = threading.Event()


def use_database():
    with connections["scratch"].cursor() as cursor:
        cursor.execute("SELECT 'of the database'")
        return cursor.fetchone()[0]


def echo(request):
    words = [request.method, request.body.decode(), visitor.get(), use_database()]
    return HttpResponse(" ".join(words))


async def async_echo(request):
    answer = await sync_to_async(use_database)()
    words = [request.method, request.body.decode(), visitor.get(), answer]
    return HttpResponse(" ".join(words))


def fail(request):
    use_database()
    raise LookupError("failed")


async def async_fail(request):
    await sync_to_async(use_database)()
    raise LookupError("failed")


def refuse(request):
    raise SuspiciousOperation("refused")


def page(request):
    return render(request, "page.html", {"title": "A page"})


def download(request):
    return FileResponse(io.BytesIO(b"a file"), filename="file.txt")


def stream(request):
    def parts():
        yield "one "
        yield use_database()

    return StreamingHttpResponse(parts())


async def async_stream(request):
    async def parts():
        yield "one "
        yield await sync_to_async(use_database)()

    return StreamingHttpResponse(parts())


def stream_on(request):
    """Stream more than any connection holds."""

    def parts():
        try:
            yield from itertools.repeat(b"on and " * 10_000, 10_000)
        finally:
            last_words.append("the stream was closed")

    return StreamingHttpResponse(parts())


async def async_stream_on(request):
    """Stream a part, and wait for ever with the next."""

    async def parts():
        try:
            yield b"on and "
            await asyncio.Event().wait()
        finally:
            last_words.append("the stream was closed")

    return StreamingHttpResponse(parts())


async def async_wait(request):
    """Wait for ever, from when ``has_arrived`` tells."""
    has_arrived.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        last_words.append("the view was cancelled")
        raise
