"""ASGI requests whose thread isn't started for Django's own receivers."""

from __future__ import annotations

import asyncio
import contextvars
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
    """Return whether the request that is being served has its thread."""
    context = SyncToAsync.thread_sensitive_context.get()
    return context in SyncToAsync.context_to_thread_executor


# Views


def query(alias="scratch"):
    """Use a database in this thread; return what is known of its connection."""
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


# How they are served


@pytest.fixture(autouse=True)
def served(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []


def serve(*names, **options):
    """Make requests one after the other, on a new event loop."""

    async def make_requests():
        return [await request(f"/{name}/", **options) for name in names]

    return asyncio.run(make_requests())


def test_the_thread_is_deferred(swapped):
    assert serve("with-thread", "with-thread") == [([200], b"False")] * 2


def test_django_starts_a_thread():
    assert serve("with-thread") == [([200], b"True")]


def test_it_can_be_turned_off(monkeypatch, settings):
    monkeypatch.setattr(altdispatch.asgi, "is_on", True)
    settings.ALTDISPATCH = {"DEFER_REQUEST_THREADS": False}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "altdispatch"]
    try:
        assert altdispatch.is_installed()
        assert serve("with-thread") == [([200], b"True")]
    finally:
        altdispatch.uninstall()


@contextmanager
def connections_noted() -> Iterator[list]:
    """Give a list that has each new connection to a database."""
    made = []

    def note(connection, **kwargs):
        made.append(connection)

    with connected(connection_created, note):
        yield made


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
    # The page about an error shows what is at which address.
    names = [*USING_DATABASE, "empty"] if not debug else ["with-query", "streamed"]

    def scenario():
        with new_database(**options), connections_noted() as made:
            answers = serve(*names, *names)
            left_open = [connection.connection is not None for connection in made]
            for connection in made:
                connection.inc_thread_sharing()
                connection.close()
            return answers, left_open

    _, left_open = assert_same_swapped(scenario)
    assert len(left_open) == 2 * len({*names} - {"empty"})


def test_several_databases(assert_same_swapped, new_database):
    def scenario():
        with (
            new_database(),
            mock.patch.dict(
                connections.settings, second=connections.settings["scratch"]
            ),
            connections_noted() as made,
        ):
            answers = serve("with-two-databases", "empty", "with-two-databases")
            return answers, [(one.alias, one.connection is None) for one in made]

    _, seen = assert_same_swapped(scenario)
    assert seen == [("scratch", True), ("second", True)] * 2


@pytest.mark.parametrize("name", ["synchronous", "with-query"])
def test_atomic_requests(assert_same_swapped, new_database, name):
    def scenario():
        with new_database(ATOMIC_REQUESTS=True):
            return serve(name)

    [([status], body)] = assert_same_swapped(scenario)
    # Django refuses it to asynchronous views.
    expected = (200, True) if name == "synchronous" else (500, False)
    assert (status, b"True" in body) == expected


def test_requests_at_once(assert_same_swapped, new_database):
    async def make_requests():
        paths = [f"/{name}/" for name in [*USING_DATABASE, "empty"] * 4]
        return await asyncio.gather(*map(request, paths))

    def scenario():
        with new_database():
            return asyncio.run(make_requests())

    assert len(assert_same_swapped(scenario)) == 20


def test_a_client_that_hangs_up(assert_same_swapped):
    """Django sends ``request_finished`` itself if there is no response."""

    def scenario():
        finished = []

        def finish(**kwargs):
            finished.append(kwargs)

        with connected(request_finished, finish):
            return serve("waiting", "empty", hangs_up=True), len(finished)

    answers, finished = assert_same_swapped(scenario)
    assert answers == [([], b""), ([200], b"ok")]
    assert finished == 2


# What is left in the context


async def send_started():
    """Send what ``ASGIHandler`` does; return the responses."""
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


def test_what_asgiref_leaves_in_the_context(assert_same_swapped):
    """Locals of another thread come to be seen, and one variable is set."""

    async def look():
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
            # It runs in the context of this thread.
            return asyncio.run_coroutine_threadsafe(look(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            del local.value

    _, after, deadlock = assert_same_swapped(scenario)
    if SYNC_RECEIVERS_FIRST:
        assert (after, deadlock) == ("of this thread", False)


def test_connections_of_asynchronous_code(assert_same_swapped, new_database):
    """What the event loop's thread has isn't for the receivers to clean up."""

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


# Whatever is unusual has the thread started, as with Django


@pytest.fixture
def count_switches(swapped):
    """Send ``request_started``, after a patch; return how often a thread was used."""

    def count(patch, in_context=True, new_loop=None):
        switches = []
        submit = ThreadPoolExecutor.submit

        def counting(*args):
            switches.append(args)
            return submit(*args)

        async def send():
            with mock.patch.object(ThreadPoolExecutor, "submit", counting), patch:
                await send_started()

        async def send_in_context():
            async with ThreadSensitiveContext():
                await send()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(send_in_context() if in_context else send())
        return len(switches)

    return count


class OtherSettings(dict):
    """Settings of databases that a program computes."""


class OtherContext(ThreadSensitiveContext):
    pass


def other(**kwargs):
    pass


UNUSUAL = {
    "another receiver": lambda: connected(request_started, other),
    "a wrapped receiver": lambda: mock.patch.object(
        Signal, "_live_receivers", return_value=([_wrapped(reset_queries)], [])
    ),
    "a look-up that returns a tuple": lambda: mock.patch.object(
        Signal, "_live_receivers", return_value=((reset_queries,), [])
    ),
    "other code": lambda: _with_code(reset_queries, other.__code__),
    "other code with the same names": lambda: _with_code(
        reset_queries, reset_queries.__code__.replace(co_firstlineno=1)
    ),
    "another handler": lambda: mock.patch.object(
        django.db, "connections", SimpleNamespace(all=connections.all)
    ),
    "a method of the handler": lambda: mock.patch.object(
        connections, "all", connections.all
    ),
    "a method of its class": lambda: mock.patch.object(
        type(connections), "all", _wrapped(type(connections).all)
    ),
    "another iterator": lambda: mock.patch.object(
        type(connections), "__iter__", _wrapped(type(connections).__iter__)
    ),
    "computed settings": lambda: mock.patch.dict(
        vars(connections), settings=OtherSettings(connections.settings)
    ),
    "settings not read yet": lambda: _without(vars(connections), "settings"),
    "sync_to_async of Django's module": lambda: mock.patch.object(
        django.dispatch.dispatcher,
        "sync_to_async",
        lambda function: sync_to_async(function),
    ),
    "a method of asgiref": lambda: mock.patch.object(
        SyncToAsync, "thread_handler", _wrapped(SyncToAsync.thread_handler)
    ),
    "the call of asgiref": lambda: mock.patch.object(
        SyncToAsync, "__call__", _wrapped(SyncToAsync.__call__)
    ),
    "threads that a program keeps": lambda: mock.patch.object(
        asgiref.sync, "ThreadPoolExecutor", _wrapped(ThreadPoolExecutor)
    ),
    "threads that a program prepares": lambda: mock.patch.object(
        threading.Thread, "run", _wrapped(threading.Thread.run)
    ),
    "threads of the loop's": lambda: _with_executor_of_loop(),
    "threads of a class of loops": lambda: mock.patch.object(
        asyncio.SelectorEventLoop,
        "run_in_executor",
        _wrapped(asyncio.SelectorEventLoop.run_in_executor),
        create=True,
    ),
    "settings of the handler's class": lambda: mock.patch.object(
        type(connections), "settings", connections.settings, create=True
    ),
    "settings of its base": lambda: mock.patch.object(
        BaseConnectionHandler, "settings", connections.settings
    ),
    "how the handler gets a connection": lambda: mock.patch.object(
        BaseConnectionHandler,
        "__getitem__",
        _wrapped(BaseConnectionHandler.__getitem__),
    ),
    "turned off": lambda: mock.patch.object(altdispatch.asgi, "is_on", False),
    "asgiref without the names": lambda: mock.patch.object(
        altdispatch.asgi, "KNOWS_THREADS", False
    ),
    "a deadlock to be told of": lambda: _variable(SyncToAsync.deadlock_context, True),
    "a context of another class": lambda: _variable(
        SyncToAsync.thread_sensitive_context, OtherContext()
    ),
    "a context that has been left": lambda: _variable(
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
    own, function.__code__ = function.__code__, code
    try:
        yield
    finally:
        function.__code__ = own


@contextmanager
def _variable(variable, value):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _wrapped(function):
    """Return another function that does the same, as agents make one."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def test_no_switch_in_the_usual_case(count_switches):
    assert count_switches(mock.MagicMock()) == 0


def test_no_switch_on_uvloop(count_switches):
    uvloop = pytest.importorskip("uvloop")
    assert count_switches(mock.MagicMock(), new_loop=uvloop.new_event_loop) == 0


def test_a_switch_in_unusual_cases(count_switches):
    # In the usual case, there is none. It also notes the code of the receivers.
    assert count_switches(mock.MagicMock()) == 0
    switches = {name: count_switches(patch()) for name, patch in UNUSUAL.items()}
    assert switches == dict.fromkeys(UNUSUAL, 1)


def test_an_error_of_the_handler(assert_same_swapped):
    """It's an error of the receivers, and not of the sender."""

    def scenario():
        async def send():
            async with ThreadSensitiveContext():
                return await request_started.asend_robust(None)

        with mock.patch.dict(connections.settings, {5: {}}):
            return [type(error) for _, error in asyncio.run(send())]

    assert assert_same_swapped(scenario) == [TypeError, TypeError]


def test_a_switch_outside_of_a_context(count_switches):
    assert count_switches(mock.MagicMock(), in_context=False) == 1


async def send_with_connection():
    """Send from where a thread has a connection; return what is left in its log."""
    connection = await sync_to_async(lambda: connections["default"])()
    connection.queries_log.append("cleared")
    await send_started()
    return [*connection.queries_log]


def test_a_thread_that_exists(swapped):
    """The connections that it has are cleaned up in it."""

    async def send():
        async with ThreadSensitiveContext():
            return await send_with_connection()

    assert asyncio.run(send()) == []


def test_the_thread_of_synchronous_code(swapped):
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


def test_a_sender_that_is_being_cancelled(assert_same_swapped):
    """It's cancelled where it would wait for the thread."""

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
        # The main thread is still alive then.
        "threading.Thread(target=lambda: ended.wait() and send_late()).start()",
    ],
    ids=["atexit", "thread"],
)
def test_at_exit(run_python, implementation, begin):
    """No thread can be started any more."""
    program = """
        import threading

        # Before the library of executors registers what ends them: it's called later.
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
