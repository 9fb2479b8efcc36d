"""A server for load.py: the shop under uvicorn, on one of the dispatchers.

    python -m benchmarks.serve VARIANT FOLDER RECEIVERS [--no-middleware]

It writes its port when it listens, and ends with its input. RECEIVERS is how many there
are of each kind, synchronous and asynchronous, for each of the request signals.
"""

import asyncio
import gc
import os
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from django.conf import settings
from django.core.signals import request_finished, request_started

from benchmarks import shop
from benchmarks.rows import make_receiver
from benchmarks.variants import VARIANTS

BOOKS = 25
HOST = "127.0.0.1"


def make_asynchronous_receiver(answer):
    """Return a new receiver that has nothing to wait for."""

    async def receiver(sender, **kwargs):
        return answer

    return receiver


def connect_receivers(count):
    """Connect so many of each kind to both signals, and return them."""
    receivers = [
        make(number)
        for make in (make_receiver, make_asynchronous_receiver)
        for number in range(count)
    ]
    for receiver in receivers:
        request_started.connect(receiver)
        request_finished.connect(receiver)
    return receivers


def count_what_there_is() -> dict[str, int]:
    """Return how many of each thing that a server could leave behind there are."""
    gc.collect()
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "loops": sum(
            issubclass(type(thing), asyncio.AbstractEventLoop)
            for thing in gc.get_objects()
        ),
        "objects": len(gc.get_objects()),
    }


async def answer_counts(scope, receive, send):
    """Answer a request for /counts, with what there is."""
    body = repr(count_what_there_is()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until the input ends."""
    variant, folder, receivers, *no_middleware = sys.argv[1:]
    shop.set_up(str(Path(folder) / "shop.sqlite3"))
    VARIANTS[variant]()

    from django.core.asgi import get_asgi_application

    from benchmarks.shop.models import Book

    Book.objects.bulk_create(
        Book(title=f"Title {number}", pages=number) for number in range(BOOKS)
    )
    kept = connect_receivers(int(receivers))
    if no_middleware:
        settings.MIDDLEWARE = []
    django = get_asgi_application()

    async def application(scope, receive, send):
        counting = scope["path"] == "/counts"
        await (answer_counts if counting else django)(scope, receive, send)

    config = uvicorn.Config(
        application, lifespan="off", log_config=None, access_log=False, loop="asyncio"
    )
    server = uvicorn.Server(config)

    def wait_for_the_end() -> None:
        sys.stdin.read()
        server.should_exit = True

    with socket.create_server((HOST, 0)) as listening:
        # As for the sockets that uvicorn makes itself: without it, clients would mostly
        # wait for their own acknowledgements.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(listening.getsockname()[1], flush=True)
        threading.Thread(target=wait_for_the_end, daemon=True).start()
        server.run([listening])
    del kept


if __name__ == "__main__":
    main()
