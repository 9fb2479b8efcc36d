"""Servers on the loopback interface, each in a thread, and a client for them."""

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connections

from .recording import PATIENCE, Record

HOST = "127.0.0.1"


class SilentHandler(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serve_wsgi() -> Iterator[int]:
    """Serve the project by wsgiref; give the port."""
    with make_server(HOST, 0, get_wsgi_application(), handler_class=SilentHandler) as s:

        def serve() -> None:
            try:
                s.serve_forever(poll_interval=0.02)
            finally:
                connections.close_all()

        with _running(serve, s.shutdown):
            yield s.server_port


@contextmanager
def serve_asgi() -> Iterator[int]:
    """Serve the project by uvicorn; give the port."""
    uvicorn = pytest.importorskip("uvicorn", reason="there is no ASGI server")
    config = uvicorn.Config(
        get_asgi_application(),
        http="h11",
        lifespan="off",
        log_config=None,
        loop="asyncio",
        ws="none",
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    # It listens from here on, so no client has to wait for the server to start.
    with (
        socket.create_server((HOST, 0)) as listening,
        _running(lambda: server.run([listening]), stop),
    ):
        yield listening.getsockname()[1]


async def request(path: str, hangs_up: bool = False) -> tuple[list[int], bytes]:
    """Make a request without a server; return the status, if any, and the body."""
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    messages = iter([{"type": "http.request", "body": b""}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await asyncio.sleep(0.01 if hangs_up else 3600)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await get_asgi_application()(scope, receive, send)
    statuses = [message["status"] for message in sent if "status" in message]
    return statuses, b"".join(message.get("body", b"") for message in sent)


@contextmanager
def _running(serve: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


class Client:
    """Makes requests, one after the other has been finished by the server."""

    def __init__(self, port: int, record: Record) -> None:
        self.port = port
        self.record = record
        self.finished = 0

    def request(self, method: str, path: str, body: str | None = None) -> Any:
        """Return the status, the type and the body of the answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read()
        finally:
            connection.close()

    def visit(self, method: str, path: str, body: str | None = None) -> Any:
        answer = self.request(method, path, body)
        self.wait_until_finished()
        return answer

    def wait_until_finished(self) -> None:
        self.finished += 1
        self.record.wait_for("request_finished", self.finished)

    @contextmanager
    def hanging_up(self, path: str, headers: str = "") -> Iterator[Any]:
        """Give the connection of a request, and close it after the block."""
        with socket.create_connection((HOST, self.port), PATIENCE) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n"
            connection.sendall(request.encode())
            yield connection


def look_around() -> dict[str, bool]:
    """Return where a receiver is: on which thread, with a loop or a database."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        has_loop = False
    else:
        has_loop = True
    return {
        "on the main thread": threading.current_thread() is threading.main_thread(),
        "on a loop": has_loop,
        "database open": connections["scratch"].connection is not None,
    }
