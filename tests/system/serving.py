"""Run servers on the loopback interface, each in a thread, with a client."""

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

from .recording import TIMEOUT, Record

HOST = "127.0.0.1"


class SilentHandler(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serve_wsgi() -> Iterator[int]:
    """Serve the project with wsgiref; return the port."""
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
    """Serve the project with uvicorn; return the port."""
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
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

    # The socket listens already, so no client has to wait for the server.
    with (
        socket.create_server((HOST, 0)) as listening,
        _running(lambda: server.run([listening]), stop),
    ):
        yield listening.getsockname()[1]


async def request(path: str, disconnects: bool = False) -> tuple[list[int], bytes]:
    """Call the ASGI handler; return the statuses it sent and the body."""
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    messages = iter([{"type": "http.request", "body": b""}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await asyncio.sleep(0.01 if disconnects else 3600)
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
        thread.join(TIMEOUT)
        assert not thread.is_alive()


class Client:
    """Make requests one after another, each after the server has finished the last."""

    def __init__(self, port: int, record: Record) -> None:
        self.port = port
        self.record = record
        self.finished = 0

    def request(self, method: str, path: str, body: str | None = None) -> Any:
        """Return the status, the content type and the body of the response."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read()
        finally:
            connection.close()

    def visit(self, method: str, path: str, body: str | None = None) -> Any:
        response = self.request(method, path, body)
        self.wait_until_finished()
        return response

    def wait_until_finished(self) -> None:
        self.finished += 1
        self.record.wait_for("request_finished", self.finished)

    @contextmanager
    def disconnecting(self, path: str, headers: str = "") -> Iterator[Any]:
        """Return the connection of a request; close it after the block."""
        with socket.create_connection((HOST, self.port), TIMEOUT) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n"
            connection.sendall(request.encode())
            yield connection


def describe_context() -> dict[str, bool]:
    """Return whether the thread is the main one, has a loop, has a database."""
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
