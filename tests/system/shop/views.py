"""Synchronous and asynchronous views that respond, fail, stream, or wait forever."""

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

#: Set by receivers, read by views.
visitor = ContextVar("visitor", default="nobody")
#: Messages of views and streams that were cancelled or closed.
closing_messages = []
has_arrived = threading.Event()


def use_database():
    with connections["scratch"].cursor() as cursor:
        cursor.execute("SELECT 'of the database'")
        return cursor.fetchone()[0]


def echo(request):
    words = [request.method, request.body.decode(), visitor.get(), use_database()]
    return HttpResponse(" ".join(words))


async def async_echo(request):
    result = await sync_to_async(use_database)()
    words = [request.method, request.body.decode(), visitor.get(), result]
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
    """Stream more than the buffers of a connection hold."""

    def parts():
        try:
            yield from itertools.repeat(b"on and " * 10_000, 10_000)
        finally:
            closing_messages.append("the stream was closed")

    return StreamingHttpResponse(parts())


async def async_stream_on(request):
    """Stream one part, then wait forever."""

    async def parts():
        try:
            yield b"on and "
            await asyncio.Event().wait()
        finally:
            closing_messages.append("the stream was closed")

    return StreamingHttpResponse(parts())


async def async_wait(request):
    """Set ``has_arrived``, then wait forever."""
    has_arrived.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        closing_messages.append("the view was cancelled")
        raise
