"""Test that ASGI requests start no thread for Django's own receivers."""

from __future__ import annotations

import asyncio
import contextvars
import runpy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import asgiref.local
import asgiref.sync
import django.db
import django.dispatch.dispatcher
import pytest
from asgiref.sync import (
    AsyncToSync,
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    sync_to_async,
)
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, reset_queries
from django.db.backends.signals import connection_created
from django.dispatch import Signal
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils.connection import BaseConnectionHandler

import altdispatch
from altdispatch.releases import SYNC_RECEIVERS_FIRST

from .recording import connected
from .serving import request

pytestmark = pytest.mark.django_db(transaction=True)

local = asgiref.local.Local()


def has_thread():
    """Return whether the current request has a thread."""
    context = SyncToAsync.thread_sensitive_context.get()
    return context in SyncToAsync.context_to_thread_executor


# Views


def query(alias="scratch"):
    """Query a database in this thread; return the state of its connection."""
    connection = connections[alias]
    was_open = connection.connection is not None
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return was_open, len(connection.queries_log), connection.health_check_done


async def empty(request):
    return HttpResponse("ok")


def synchronous(request):
    return HttpResponse(f"{query()} {query()} {connections['scratch'].in_atomic_block}")


async def with_query(request):
    return HttpResponse(
        f"{await sync_to_async(query)()} {await sync_to_async(query)()}"
    )


async def with_two_databases(request):
    return HttpResponse(
        f"{await sync_to_async(query)()} {await sync_to_async(query)('second')}"
    )


async def streamed(request):
    async def parts():
        yield "first "
        yield str(await sync_to_async(query)())

    return StreamingHttpResponse(parts())


async def failing(request):
    await sync_to_async(query)()
    raise LookupError("failed")


async def waiting(request):
    await asyncio.sleep(3600)


async def with_thread(request):
    return HttpResponse(str(has_thread()))


urlpatterns = [
    path("empty/", empty),
    path("synchronous/", synchronous),
    path("with-query/", with_query),
    path("with-two-databases/", with_two_databases),
    path("streamed/", streamed),
    path("failing/", failing),
    path("waiting/", waiting),
    path("with-thread/", with_thread),
]
USING_DATABASE = ["synchronous", "with-query", "streamed", "failing"]


# Server


@pytest.fixture(autouse=True)
def urls_and_middleware(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []


def serve(*names, **options):
    """Make requests one after another on a new event loop."""

    async def make_requests():
        return [await request(f"/{name}/", **options) for name in names]

    return asyncio.run(make_requests())


def test_thread_is_deferred(swapped):
    assert serve("with-thread", "with-thread") == [([200], b"False")] * 2


def test_django_starts_a_thread():
    assert serve("with-thread") == [([200], b"True")]


def test_setting_turns_it_off(monkeypatch, settings):
    monkeypatch.setattr(altdispatch.asgi, "is_on", True)
    settings.ALTDISPATCH = {"DEFER_REQUEST_THREADS": False}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "altdispatch"]
    try:
        assert altdispatch.is_installed()
        assert serve("with-thread") == [([200], b"True")]
    finally:
        altdispatch.uninstall()


@contextmanager
def recorded_connections() -> Iterator[list]:
    """Return a list of the connections that the block creates."""
    created = []

    def record(connection, **kwargs):
        created.append(connection)

    with connected(connection_created, record):
        yield created


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"CONN_MAX_AGE": None},
        {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True},
    ],
    ids=str,
)
def test_connections(assert_same_swapped, new_database, settings, options, debug):
    settings.DEBUG = debug
    # Django's error page contains memory addresses, which differ.
    names = [*USING_DATABASE, "empty"] if not debug else ["with-query", "streamed"]

    def scenario():
        with new_database(**options), recorded_connections() as created:
            responses = serve(*names, *names)
            left_open = [connection.connection is not None for connection in created]
            for connection in created:
                connection.inc_thread_sharing()
                connection.close()
            return responses, left_open

    _, left_open = assert_same_swapped(scenario)
    assert len(left_open) == 2 * len({*names} - {"empty"})


def test_several_databases(assert_same_swapped, new_database):
    def scenario():
        with (
            new_database(),
            mock.patch.dict(
                connections.settings, second=connections.settings["scratch"]
            ),
            recorded_connections() as created,
        ):
            responses = serve("with-two-databases", "empty", "with-two-databases")
            return responses, [(one.alias, one.connection is None) for one in created]

    _, seen = assert_same_swapped(scenario)
    assert seen == [("scratch", True), ("second", True)] * 2


@pytest.mark.parametrize("name", ["synchronous", "with-query"])
def test_atomic_requests(assert_same_swapped, new_database, name):
    def scenario():
        with new_database(ATOMIC_REQUESTS=True):
            return serve(name)

    [([status], body)] = assert_same_swapped(scenario)
    # Django refuses asynchronous views with ATOMIC_REQUESTS.
    expected = (200, True) if name == "synchronous" else (500, False)
    assert (status, b"True" in body) == expected


def test_concurrent_requests(assert_same_swapped, new_database):
    async def make_requests():
        paths = [f"/{name}/" for name in [*USING_DATABASE, "empty"] * 4]
        return await asyncio.gather(*map(request, paths))

    def scenario():
        with new_database():
            return asyncio.run(make_requests())

    assert len(assert_same_swapped(scenario)) == 20


def test_client_that_disconnects(assert_same_swapped):
    """Without a response, Django itself sends ``request_finished``."""

    def scenario():
        finished = []

        def finish(**kwargs):
            finished.append(kwargs)

        with connected(request_finished, finish):
            return serve("waiting", "empty", disconnects=True), len(finished)

    responses, finished = assert_same_swapped(scenario)
    assert responses == [([], b""), ([200], b"ok")]
    assert finished == 2


# Context after a send


async def send_started():
    """Send ``request_started`` as ``ASGIHandler`` does; return the responses."""
    return await request_started.asend(ASGIHandler, scope={})


def test_responses(assert_same_swapped):
    async def send():
        async with ThreadSensitiveContext():
            return await send_started()

    responses = assert_same_swapped(lambda: asyncio.run(send()))
    assert responses == [(reset_queries, None), (close_old_connections, None)]


def test_asynchronous_receivers(assert_same_swapped):
    variable = contextvars.ContextVar("variable", default="")

    async def receiver(**kwargs):
        variable.set("set")
        return has_thread() if SYNC_RECEIVERS_FIRST else None

    async def send():
        async with ThreadSensitiveContext():
            responses = await send_started()
            return [response for _, response in responses][:2], variable.get()

    def scenario():
        with connected(request_started, receiver):
            return asyncio.run(send())

    assert assert_same_swapped(scenario)[0] == [None, None]


def test_context_variables_of_asgiref(assert_same_swapped):
    """asgiref makes another thread's locals visible and sets one variable."""

    async def send_and_compare():
        async with ThreadSensitiveContext():
            before = getattr(local, "value", None)
            await send_started()
            variables = contextvars.copy_context()
            return (
                before,
                getattr(local, "value", None),
                variables.get(SyncToAsync.deadlock_context, "unset"),
            )

    def scenario():
        local.value = "of this thread"
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            # The coroutine runs in this thread's context.
            coroutine = send_and_compare()
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            del local.value

    _, after, deadlock = assert_same_swapped(scenario)
    if SYNC_RECEIVERS_FIRST:
        assert (after, deadlock) == ("of this thread", False)


def test_connections_of_asynchronous_code(assert_same_swapped, new_database):
    """The receivers don't clean up connections of the event loop's thread."""

    async def send():
        connection = connections["scratch"]
        connection.queries_log.append("kept")
        async with ThreadSensitiveContext():
            await send_started()
            return [*connection.queries_log], connections["scratch"] is connection

    def scenario():
        with new_database():
            return asyncio.run(send())

    assert assert_same_swapped(scenario) == (["kept"], True)


# Unusual cases, which start the thread as stock Django does


@pytest.fixture
def count_thread_uses(swapped):
    """Patch, send ``request_started``, and return how often a thread was used."""

    def count(patch, in_context=True, new_loop=None):
        uses = []
        submit = ThreadPoolExecutor.submit

        def counting(*args):
            uses.append(args)
            return submit(*args)

        async def send():
            with mock.patch.object(ThreadPoolExecutor, "submit", counting), patch:
                await send_started()

        async def send_in_context():
            async with ThreadSensitiveContext():
                await send()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(send_in_context() if in_context else send())
        return len(uses)

    return count


class OtherSettings(dict):
    """Database settings computed by a program."""


class OtherContext(ThreadSensitiveContext):
    pass


def other(**kwargs):
    pass


UNUSUAL_CASES = {
    "another receiver": lambda: connected(request_started, other),
    "wrapped receiver": lambda: mock.patch.object(
        Signal, "_live_receivers", return_value=([_wrapped(reset_queries)], [])
    ),
    "patched look-up that returns a tuple": lambda: mock.patch.object(
        Signal, "_live_receivers", return_value=((reset_queries,), [])
    ),
    "receiver with other code": lambda: _with_code(reset_queries, other.__code__),
    "receiver with other code of the same names": lambda: _with_code(
        reset_queries, reset_queries.__code__.replace(co_firstlineno=1)
    ),
    "other connection handler": lambda: mock.patch.object(
        django.db, "connections", SimpleNamespace(all=connections.all)
    ),
    "patched method of the handler": lambda: mock.patch.object(
        connections, "all", connections.all
    ),
    "patched method of the handler's class": lambda: mock.patch.object(
        type(connections), "all", _wrapped(type(connections).all)
    ),
    "patched iterator of the handler's class": lambda: mock.patch.object(
        type(connections), "__iter__", _wrapped(type(connections).__iter__)
    ),
    "computed settings": lambda: mock.patch.dict(
        vars(connections), settings=OtherSettings(connections.settings)
    ),
    "settings not read yet": lambda: _without(vars(connections), "settings"),
    "patched sync_to_async in Django's module": lambda: mock.patch.object(
        django.dispatch.dispatcher,
        "sync_to_async",
        lambda function: sync_to_async(function),
    ),
    "patched method of asgiref": lambda: mock.patch.object(
        SyncToAsync, "thread_handler", _wrapped(SyncToAsync.thread_handler)
    ),
    "patched call of asgiref": lambda: mock.patch.object(
        SyncToAsync, "__call__", _wrapped(SyncToAsync.__call__)
    ),
    "patched ThreadPoolExecutor": lambda: mock.patch.object(
        asgiref.sync, "ThreadPoolExecutor", _wrapped(ThreadPoolExecutor)
    ),
    "patched Thread.run": lambda: mock.patch.object(
        threading.Thread, "run", _wrapped(threading.Thread.run)
    ),
    "patched executor of the loop": lambda: _with_executor_of_loop(),
    "patched executor of the loop's class": lambda: mock.patch.object(
        asyncio.SelectorEventLoop,
        "run_in_executor",
        _wrapped(asyncio.SelectorEventLoop.run_in_executor),
        create=True,
    ),
    "settings on the handler's class": lambda: mock.patch.object(
        type(connections), "settings", connections.settings, create=True
    ),
    "settings on the handler's base class": lambda: mock.patch.object(
        BaseConnectionHandler, "settings", connections.settings
    ),
    "patched item access of the handler": lambda: mock.patch.object(
        BaseConnectionHandler,
        "__getitem__",
        _wrapped(BaseConnectionHandler.__getitem__),
    ),
    "turned off": lambda: mock.patch.object(altdispatch.asgi, "is_on", False),
    "unknown release of asgiref": lambda: mock.patch.object(
        altdispatch.asgi, "KNOWS_THREADS", False
    ),
    "asgiref expects a deadlock": lambda: _variable(SyncToAsync.deadlock_context, True),
    "subclass of ThreadSensitiveContext": lambda: _variable(
        SyncToAsync.thread_sensitive_context, OtherContext()
    ),
    "context that was left": lambda: _variable(
        SyncToAsync.thread_sensitive_context, ThreadSensitiveContext()
    ),
}


@contextmanager
def _without(mapping, name):
    value = mapping.pop(name)
    try:
        yield
    finally:
        mapping[name] = value


@contextmanager
def _with_executor_of_loop():
    loop = asyncio.get_running_loop()
    loop.run_in_executor = _wrapped(loop.run_in_executor)
    yield


@contextmanager
def _with_code(function, code):
    original, function.__code__ = function.__code__, code
    try:
        yield
    finally:
        function.__code__ = original


@contextmanager
def _variable(variable, value):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _wrapped(function):
    """Return a wrapper that does the same, as monitoring agents do."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def test_no_thread_in_the_usual_case(count_thread_uses):
    assert count_thread_uses(mock.MagicMock()) == 0


def test_no_thread_on_uvloop(count_thread_uses):
    uvloop = pytest.importorskip("uvloop")
    assert count_thread_uses(mock.MagicMock(), new_loop=uvloop.new_event_loop) == 0


def test_thread_in_unusual_cases(count_thread_uses):
    # The usual case starts no thread, and notes the code of the receivers.
    assert count_thread_uses(mock.MagicMock()) == 0
    uses = {name: count_thread_uses(patch()) for name, patch in UNUSUAL_CASES.items()}
    assert uses == dict.fromkeys(UNUSUAL_CASES, 1)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (asgiref.sync, "_restore_context"),
        (AsyncToSync, "executors"),
        (SyncToAsync, "context_to_thread_executor"),
        (SyncToAsync, "deadlock_context"),
        (SyncToAsync, "thread_handler"),
        (SyncToAsync, "thread_sensitive_context"),
        # It sets the attribute ``token``.
        (ThreadSensitiveContext, "__init__"),
    ],
)
def test_asgiref_without_a_name(monkeypatch, owner, name):
    """The module can be imported, and sees that it doesn't know this asgiref."""
    file = altdispatch.asgi.__file__
    assert runpy.run_path(file)["KNOWS_THREADS"]
    with monkeypatch.context() as patch:
        patch.delattr(owner, name)
        assert not runpy.run_path(file)["KNOWS_THREADS"]


def test_unknown_release_of_asgiref(run_python, implementation):
    """All is done as on stock Django, with a thread for each request."""
    program = """
        import importlib.util, re, sys
        import asgiref

        # An asgiref in which a private attribute has another name.
        spec = importlib.util.find_spec("asgiref.sync")
        source = spec.loader.get_source("asgiref.sync")
        asgiref.sync = importlib.util.module_from_spec(spec)
        sys.modules["asgiref.sync"] = asgiref.sync
        exec(re.sub(r"\\bdeadlock_context\\b", "other", source), vars(asgiref.sync))

        import asyncio, threading
        import altdispatch, django.db
        from asgiref.sync import ThreadSensitiveContext, sync_to_async
        from django.conf import settings
        from django.core.signals import request_started

        def synchronous(**kwargs):
            return threading.current_thread() is threading.main_thread()

        async def asynchronous(**kwargs):
            return await sync_to_async(synchronous)()

        def show(responses):
            print([response for _, response in responses])

        async def main():
            async with ThreadSensitiveContext():
                show(await request_started.asend(None, scope={}))
                print(threading.active_count())
                show(await signal.asend(None))

        settings.configure(DATABASES={})
        django.db.connections.settings
        if %s:
            assert altdispatch.install()
            assert altdispatch.status().installed
        signal = django.dispatch.Signal()
        for receiver in (synchronous, asynchronous):
            signal.connect(receiver)
        asyncio.run(main())
        show(signal.send(None))
    """
    stock = run_python(program % False)
    assert stock == "[None, None]\n2\n[False, False]\n[True, True]\n"
    assert run_python(program % True) == stock


def test_an_error_of_the_handler(assert_same_swapped):
    """The error is a response of the receivers; the send doesn't raise it."""

    def scenario():
        async def send():
            async with ThreadSensitiveContext():
                return await request_started.asend_robust(None)

        with mock.patch.dict(connections.settings, {5: {}}):
            return [type(error) for _, error in asyncio.run(send())]

    assert assert_same_swapped(scenario) == [TypeError, TypeError]


def test_thread_outside_a_context(count_thread_uses):
    assert count_thread_uses(mock.MagicMock(), in_context=False) == 1


async def send_with_connection():
    """Send while the thread has a connection; return its log of queries."""
    connection = await sync_to_async(lambda: connections["default"])()
    connection.queries_log.append("cleared")
    await send_started()
    return [*connection.queries_log]


def test_existing_thread(swapped):
    """The receivers clean up the connections of the request's existing thread."""

    async def send():
        async with ThreadSensitiveContext():
            return await send_with_connection()

    assert asyncio.run(send()) == []


def test_thread_of_synchronous_code(swapped):
    """Within ``async_to_sync()``, synchronous code runs in the caller's thread."""

    async def send():
        async with ThreadSensitiveContext():
            return await send_with_connection()

    assert async_to_sync(send)() == []


def test_a_context_with_an_executor(swapped):
    executor = ThreadPoolExecutor(1)

    async def send():
        async with ThreadSensitiveContext(executor=executor):
            return await send_with_connection()

    with executor:
        try:
            ThreadSensitiveContext(executor=executor)
        except TypeError:
            pytest.skip("this asgiref takes no executor")
        assert asyncio.run(send()) == []


def test_cancelled_sender(assert_same_swapped):
    """The sender is cancelled where Django waits for the thread."""

    async def send():
        async with ThreadSensitiveContext():
            asyncio.current_task().cancel()
            await send_started()

    def scenario():
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(send())
        return "cancelled"

    assert_same_swapped(scenario)


@pytest.mark.parametrize(
    "begin",
    [
        "atexit.register(send_late)",
        # The main thread is still alive when this thread sends.
        "threading.Thread(target=lambda: ended.wait() and send_late()).start()",
    ],
    ids=["atexit", "thread"],
)
def test_at_exit(run_python, implementation, begin):
    """At exit, no thread can be started."""
    program = """
        import threading

        # Register before concurrent.futures does: the callbacks run in reverse order.
        ended = threading.Event()
        threading._register_atexit(ended.set)

        import asyncio, atexit
        import altdispatch, django.db
        from asgiref.sync import ThreadSensitiveContext
        from django.conf import settings
        from django.core.signals import request_started

        async def send():
            async with ThreadSensitiveContext():
                return len(await request_started.asend(None, scope={}))

        def send_late():
            try:
                print(asyncio.run(send()))
            except RuntimeError as error:
                print(error)

        settings.configure(DATABASES={})
        django.db.connections.settings
        altdispatch.install() if %s else None
        print(asyncio.run(send()))
        %s
    """
    stock = run_python(program % (False, begin))
    assert stock != "2\n2\n"
    assert run_python(program % (True, begin)) == stock
