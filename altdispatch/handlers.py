"""Requests to the project's own handler, WSGI or ASGI, as a server makes them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib import auth
from django.core.asgi import get_asgi_application
from django.core.servers.basehttp import get_internal_wsgi_application
from django.test import RequestFactory
from django.utils.crypto import get_random_string
from django.utils.module_loading import import_string


class Failed(Exception):
    """What was to be profiled did not succeed; says why, for people."""


def _server_name() -> str:
    """Return a name that the project takes requests for."""
    for host in settings.ALLOWED_HOSTS:
        if host != "*":
            return str(host).removeprefix(".")
    return "localhost"


def make_environ(
    method: str, url: str, data: str, headers: dict[str, str], cookies: dict[str, str]
) -> dict[str, Any]:
    """Return the environment of a WSGI request that the project's checks let pass.

    It is secure with ``SECURE_SSL_REDIRECT``, and has the CSRF token of a form.
    """
    is_secure = settings.SECURE_SSL_REDIRECT
    host = _server_name()
    token = get_random_string(32)
    cookies = {settings.CSRF_COOKIE_NAME: token, **cookies}
    content_type = "application/x-www-form-urlencoded"
    request = RequestFactory().generic(method, url, data, content_type, is_secure)
    given = {name.upper().replace("-", "_"): headers[name] for name in headers}
    return {
        **request.environ,
        "SERVER_NAME": host,
        "HTTP_COOKIE": "; ".join(f"{name}={cookies[name]}" for name in cookies),
        settings.CSRF_HEADER_NAME: token,
        "HTTP_REFERER": f"{'https' if is_secure else 'http'}://{host}/",
        **{f"HTTP_{name}": given[name] for name in given},
        "CONTENT_TYPE": given.get("CONTENT_TYPE", content_type),
    }


@contextmanager
def logged_in(name: str) -> Iterator[dict[str, str]]:
    """Give the cookies of a new session of a user, which is deleted after the block.

    No signal is sent for it. Raise ``Failed`` if there is no user of that name.
    """
    if not name:
        yield {}
        return
    model: Any = auth.get_user_model()
    try:
        user = model.objects.get_by_natural_key(name)
    except model.DoesNotExist:
        raise Failed(f"There is no user {name!r}.") from None
    session = import_string(f"{settings.SESSION_ENGINE}.SessionStore")()
    session[auth.SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    try:
        yield {settings.SESSION_COOKIE_NAME: session.session_key}
    finally:
        session.delete()


class WSGI:
    """Makes the same request again and again."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.application = get_internal_wsgi_application()
        # Django has decoded the path in place: a server gives its bytes as Latin-1.
        path = environ["PATH_INFO"].encode().decode("latin-1")
        self.environ = {**environ, "PATH_INFO": path}
        self.body = environ["wsgi.input"].read()

    def request(self) -> int:
        """Make the request, read the answer, and return its status."""
        statuses: list[str] = []

        def start_response(status: str, headers: Any, error: Any = None) -> Any:
            statuses.append(status)

        environ = {**self.environ, "wsgi.input": io.BytesIO(self.body)}
        answer: Any = self.application(environ, start_response)
        try:
            for _ in answer:
                pass
        finally:
            if hasattr(answer, "close"):
                answer.close()
        return int(statuses[-1].split()[0])

    def close(self) -> None:
        """Let go of what it has."""


class ASGI:
    """Makes the same request again and again, on an event loop that it keeps."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.application = get_asgi_application()
        self.body = environ["wsgi.input"].read()
        self.runner = asyncio.Runner()
        headers = {
            key.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for key, value in environ.items()
            if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")
        }
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": environ["REQUEST_METHOD"],
            "scheme": environ["wsgi.url_scheme"],
            "path": environ["PATH_INFO"],
            "query_string": environ["QUERY_STRING"].encode(),
            "server": (environ["SERVER_NAME"], int(environ["SERVER_PORT"])),
            "headers": [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in headers.items()
            ],
        }

    def request(self) -> int:
        """Make the request, read the answer, and return its status."""
        return self.runner.run(self._request())

    async def _request(self) -> int:
        statuses: list[int] = []
        messages = [{"type": "http.request", "body": self.body, "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            # The client stays until it has the answer.
            return await asyncio.Future()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        application: Any = self.application
        await application({**self.scope}, receive, send)
        return statuses[-1]

    def close(self) -> None:
        """Close the event loop."""
        self.runner.close()
