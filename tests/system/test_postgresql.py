"""Check which PostgreSQL backend serves which connection, and for how long.

A backend is a server process. It serves one connection, and no two threads share a
connection.
"""

import asyncio
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain

import django
import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import request_started
from django.db import (
    DatabaseError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete, post_save
from django.dispatch import Signal
from django.test import AsyncClient

from ..settings import BACKEND
from .conftest import close_new_database, postgresql_session
from .recording import connected
from .serving import Client, request, serve_asgi, serve_wsgi
from .shop.models import Customer, Tag

pytestmark = [
    pytest.mark.skipif(
        BACKEND != "postgresql", reason="runs in `make postgresql` only"
    ),
    pytest.mark.django_db(transaction=True),
]


class Undo(Exception):
    """Roll back a transaction."""


def query(sql, alias="default"):
    """Return the single value of a query on this thread's connection."""
    with connections[alias].cursor() as cursor:
        return cursor.execute(sql).fetchone()[0]


def backend_pid(alias="default"):
    return query("SELECT pg_backend_pid()", alias)


def terminate_backends(alias):
    """Close all connections to a database on the server."""
    with postgresql_session("postgres") as session:
        terminated = session.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = %s",
            [connections.settings[alias]["NAME"]],
        ).fetchall()
    assert terminated
    assert all(done for (done,) in terminated)


def count_committed(model):
    """Return the number of committed rows, read in another connection."""
    table = model._meta.db_table
    with postgresql_session(connection.settings_dict["NAME"]) as session:
        return session.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


# Database operations in asynchronous receivers


OPERATIONS = {
    "query": lambda: Tag.objects.count(),
    "save": lambda: Tag(name="never").save(),
    "iterator": lambda: list(Tag.objects.iterator()),
    "cursor": lambda: connection.cursor(),
    "connect": lambda: connection.connect(),
    "close": lambda: connection.close(),
    "commit": lambda: connection.commit(),
    "rollback": lambda: connection.rollback(),
    "savepoint": lambda: connection.savepoint(),
    "atomic": lambda: transaction.atomic().__enter__(),
    "on_commit": lambda: transaction.on_commit(int),
}


def run_operations():
    """Run each operation; return the messages of those that raise."""
    errors = {}
    for name, operation in OPERATIONS.items():
        try:
            operation()
        except SynchronousOnlyOperation as error:
            errors[name] = str(error)
    return errors


def test_operations_in_asynchronous_receivers(assert_same_swapped):
    signal = Signal()

    async def receiver(**kwargs):
        before_waiting = run_operations()
        await asyncio.sleep(0.001)
        return before_waiting, run_operations()

    def send():
        with transaction.atomic():
            return signal.send(None), signal.send_robust(None), Tag.objects.count()

    async def asend():
        return await signal.asend(None), await signal.asend_robust(None)

    def scenario():
        with connected(signal, receiver):
            *results, count = send()
            results += asyncio.run(asend())
        return [response for [(_, response)] in results], count

    responses, count = assert_same_swapped(scenario)
    assert count == 0
    for errors in chain.from_iterable(responses):
        assert errors.keys() == OPERATIONS.keys()


def test_operation_whose_error_is_not_caught(assert_same_swapped):
    async def receiver(**kwargs):
        Tag.objects.count()

    def save():
        with transaction.atomic():
            Tag.objects.create(name="in a transaction")

    async def asave():
        try:
            await Tag.objects.acreate(name="alone")
        finally:
            await sync_to_async(lambda: connection.close())()

    def scenario():
        errors = []
        with connected(post_save, receiver, sender=Tag):
            for save_tag in (save, async_to_sync(asave), lambda: asyncio.run(asave())):
                try:
                    save_tag()
                except SynchronousOnlyOperation as error:
                    errors.append(str(error))
        names = list(Tag.objects.values_list("name", flat=True))
        Tag.objects.all().delete()
        return errors, names

    errors, names = assert_same_swapped(scenario)
    assert len(errors) == 3
    assert names == ["alone", "alone"]


# Transactions of the sender


@pytest.fixture
def compare_sent_in_transaction(assert_same_swapped):
    """Compare transactions in which asynchronous receivers run synchronous code.

    The receivers call ``work``, once at once and once after waiting. The test compares
    what it records and returns, its thread and backend, and the rows afterwards. With
    ``undo``, the sender raises an error.
    """

    def run_both(work, undo=False):
        def scenario():
            notes = []
            sender_ids = threading.get_ident(), backend_pid()

            def work_in_thread():
                notes.append((threading.get_ident(), backend_pid()) == sender_ids)
                notes.append(work(notes))

            async def receiver(**kwargs):
                await sync_to_async(work_in_thread)()
                await asyncio.sleep(0.001)
                await sync_to_async(work_in_thread)()

            try:
                with connected(post_save, receiver, sender=Tag), transaction.atomic():
                    Tag.objects.create(name="first")
                    notes.append("sent")
                    if undo:
                        raise Undo
            except (Undo, DatabaseError) as error:
                notes.append((type(error).__name__, backend_pid() == sender_ids[1]))
            notes.append([model.objects.count() for model in (Tag, Customer)])
            for model in (Tag, Customer):
                model.objects.all().delete()
            return notes

        return assert_same_swapped(scenario)

    return run_both


def count_rows(model=Tag):
    return model.objects.count(), count_committed(model)


def test_uncommitted_rows(compare_sent_in_transaction):
    def work(notes):
        Customer.objects.create(name="Ann")
        return count_rows(), connection.in_atomic_block

    notes = compare_sent_in_transaction(work)
    assert notes == [*[True, ((1, 0), True)] * 2, "sent", [1, 2]]


def test_rollback(compare_sent_in_transaction):
    def work(notes):
        Customer.objects.create(name="Ann")
        return count_rows(Customer)

    notes = compare_sent_in_transaction(work, undo=True)
    assert notes == [True, (1, 0), True, (2, 0), "sent", ("Undo", True), [0, 0]]


def test_on_commit(compare_sent_in_transaction):
    def work(notes):
        transaction.on_commit(lambda: notes.append(("committed", count_rows())))
        with transaction.atomic():
            transaction.on_commit(lambda: notes.append("never"))
            transaction.set_rollback(True)

    notes = compare_sent_in_transaction(work)
    committed = [("committed", (1, 1))] * 2
    assert notes == [*[True, None] * 2, "sent", *committed, [1, 0]]


def test_failing_query(compare_sent_in_transaction):
    """After an error, PostgreSQL rejects all queries of the transaction."""

    def work(notes):
        try:
            query("SELECT 1 / 0")
        except DatabaseError as error:
            return str(error)

    notes = compare_sent_in_transaction(work)
    assert notes == [True, "division by zero", ("InternalError", True), [0, 0]]


def test_failing_query_in_a_savepoint(compare_sent_in_transaction):
    def work(notes):
        Customer.objects.create(name="Ann")
        try:
            with transaction.atomic():
                Customer.objects.create(name="Bob")
                query("SELECT 1 / 0")
        except DatabaseError as error:
            return str(error)

    notes = compare_sent_in_transaction(work)
    assert notes == [*[True, "division by zero"] * 2, "sent", [1, 2]]


# Sends from asynchronous code


RUNNERS = {
    "run": lambda function: asyncio.run(function()),
    "async_to_sync": lambda function: async_to_sync(function)(),
}


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_asynchronous_orm(assert_same_swapped, run):
    """One backend serves the ORM and all receivers."""
    signals = [post_save, post_delete, user_logged_in]

    async def main():
        tag = Tag(name="new")
        await tag.asave()
        await tag.adelete()
        user = await sync_to_async(User.objects.create_user)("ann", password="sesame")
        assert await AsyncClient().alogin(username="ann", password="sesame")
        await user.adelete()
        pid = await sync_to_async(backend_pid)()
        await sync_to_async(lambda: connection.close())()
        return pid

    def scenario():
        pids_by_receiver = defaultdict(list)

        def receive(signal, **kwargs):
            pids_by_receiver[signals.index(signal), "sync"].append(backend_pid())

        async def receive_asynchronously(signal, **kwargs):
            pid = await sync_to_async(backend_pid)()
            pids_by_receiver[signals.index(signal), "async"].append(pid)

        with ExitStack() as stack:
            for signal in signals:
                both = connected(signal, receive, receive_asynchronously)
                stack.enter_context(both)
            pid = run(main)
        assert {pid} == {pid for pids in pids_by_receiver.values() for pid in pids}
        return sorted((*key, len(pids)) for key, pids in pids_by_receiver.items())

    counts = assert_same_swapped(scenario)
    assert len(counts) == 6


# Connections that are created


class Backends(dict):
    """Number backends in the order in which they are first seen."""

    def current(self):
        """Return the number of this thread's backend, or None without a connection."""
        wrapped = connections["scratch"].connection
        if wrapped is not None:
            return self.setdefault(wrapped.info.backend_pid, len(self) + 1)


@pytest.fixture
def backends():
    return Backends()


def test_terminated_connection(compare, new_database, backends):
    def scenario():
        backends.clear()
        with new_database():
            pids = [backend_pid("scratch"), backend_pid("scratch")]
            terminate_backends("scratch")
            errors = []
            for _ in range(2):
                try:
                    backend_pid("scratch")
                except OperationalError as error:
                    errors.append(error)
            close_old_connections()
            pids.append(backend_pid("scratch"))
        return len(set(pids)), errors

    seen = compare(scenario, sent=["connection_created"], view=backends.current)
    assert [call.view for call in seen.of("connection_created")] == [1, 2]
    count, errors = seen.result
    assert count == len(errors) == 2


def test_connection_of_each_thread(compare, new_database, backends):
    def connect():
        backend_pid("scratch")
        return backends.current()

    def connect_and_close():
        try:
            return connect()
        finally:
            close_new_database()

    async def connect_twice():
        seen = []
        for _ in range(2):
            async with ThreadSensitiveContext():
                seen.append(await sync_to_async(connect_and_close)())
        return seen

    def scenario():
        backends.clear()
        with new_database(), ThreadPoolExecutor(1) as pool:
            return (
                connect(),
                pool.submit(connect_and_close).result(),
                asyncio.run(connect_twice()),
                async_to_sync(connect_twice)(),
            )

    seen = compare(scenario, sent=["connection_created"], asynchronous=True)
    # async_to_sync() runs synchronous code in the calling thread.
    assert seen.result == [1, 2, [3, 4], [1, 5]]
    assert len(seen.of("connection_created")) == 5


def test_receiver_of_connection_created(assert_same_swapped, new_database):
    """An asynchronous receiver can use the connection that the signal passes."""

    def prepare(connection):
        with connection.cursor() as cursor:
            cursor.execute("SET application_name = 'prepared'")

    async def receive(connection, **kwargs):
        await sync_to_async(prepare)(connection)

    def read_setting():
        return query("SHOW application_name", "scratch")

    async def read_setting_asynchronously():
        try:
            return await sync_to_async(read_setting)()
        finally:
            await sync_to_async(close_new_database)()

    def scenario():
        with new_database(), connected(connection_created, receive):
            return read_setting(), asyncio.run(read_setting_asynchronously())

    assert assert_same_swapped(scenario) == ("prepared", "prepared")


# Connections at the end of a request


SENT = ["request_started", "connection_created", "request_finished"]


@pytest.fixture
def compare_served(compare, record, new_database, backends):
    """Run ``compare`` with a scenario that gets a client of a server.

    Keyword arguments are settings of the database.
    """

    def run_both(serve, scenario, **settings):
        def run():
            backends.clear()
            with new_database(**settings), serve() as port:
                return scenario(Client(port, record))

        return compare(run, sent=SENT, view=backends.current)

    return run_both


def views(seen, signal):
    return [call.view for call in seen.of(signal)]


@pytest.mark.parametrize(
    ("checks", "statuses", "at_start", "at_end"),
    [
        (False, [200, 200, 500, 200], [None, 1, 1, None], [1, 1, None, 2]),
        (True, [200, 200, 200, 200], [None, 1, 1, 2], [1, 1, 2, 2]),
    ],
)
def test_persistent_connection(compare_served, checks, statuses, at_start, at_end):
    def scenario(client):
        responses = [client.visit("GET", "/echo/") for _ in range(2)]
        terminate_backends("scratch")
        responses += [client.visit("GET", "/echo/") for _ in range(2)]
        return [status for status, *_ in responses]

    seen = compare_served(
        serve_wsgi, scenario, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=checks
    )
    assert seen.result == statuses
    assert views(seen, "request_started") == at_start
    assert views(seen, "connection_created") == [1, 2]
    assert views(seen, "request_finished") == at_end


servers = pytest.mark.parametrize("serve", [serve_wsgi, serve_asgi])


@servers
@pytest.mark.parametrize("path", ["/echo/", "/async/echo/"])
def test_connection_created_by_a_receiver(compare_served, backends, serve, path):
    """The view uses the connection, unless Django has closed it before."""
    created = []

    def connect():
        backend_pid("scratch")
        created.append((backends.current(), connections["scratch"]))

    async def receive(**kwargs):
        await sync_to_async(connect)()

    def scenario(client):
        created.clear()
        with connected(request_started, receive):
            statuses = [client.visit("GET", path)[0] for _ in range(2)]
        numbers = [number for number, _ in created]
        return statuses, numbers, [wrapper.connection for _, wrapper in created]

    seen = compare_served(serve, scenario)
    # Up to Django 6.0 under ASGI, asynchronous receivers run before Django's own.
    is_kept = serve is serve_wsgi or django.VERSION >= (6, 1)
    assert seen.result == [[200, 200], [1, 2] if is_kept else [1, 3], [None, None]]
    assert views(seen, "connection_created") == [1, 2] if is_kept else [1, 2, 3, 4]
    assert views(seen, "request_finished") == [None, None]


@servers
@pytest.mark.parametrize("path", ["/echo/", "/async/echo/"])
def test_connection_terminated_when_created(compare_served, serve, path):
    """The view fails, and Django closes the connection."""

    async def terminate(**kwargs):
        await sync_to_async(terminate_backends)("scratch")

    def scenario(client):
        with connected(connection_created, terminate):
            response = client.visit("GET", path)
        return [status for status, *_ in (response, client.visit("GET", path))]

    seen = compare_served(serve, scenario)
    assert seen.result == [500, 200]
    assert views(seen, "connection_created") == [1, 2]
    assert views(seen, "request_finished") == [None, None]


@pytest.mark.parametrize("in_one_thread", [False, True])
@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize("path", ["/echo/", "/async/echo/"])
def test_connection_terminated_between_requests(
    assert_same_swapped, new_database, path, checks, in_one_thread
):
    """Django's receivers of request_started clean up the current thread's connections.

    Each request has a thread of its own, unless the program shares one.
    """

    async def make_requests():
        responses = [await request(path) for _ in range(2)]
        await sync_to_async(terminate_backends, thread_sensitive=False)("scratch")
        responses += [await request(path) for _ in range(2)]
        return [status for [status], _ in responses]

    async def make_requests_in_one_thread():
        async with ThreadSensitiveContext():
            statuses = await make_requests()
            await sync_to_async(close_new_database)()
            return statuses

    created = []

    def scenario():
        created.clear()
        options = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": checks}
        with new_database(**options), connected(connection_created, record):
            make = make_requests_in_one_thread if in_one_thread else make_requests
            statuses = asyncio.run(make())
            for connection in created:
                connection.inc_thread_sharing()
                connection.close()
            return statuses, len(created)

    def record(connection, **kwargs):
        created.append(connection)

    statuses, count = assert_same_swapped(scenario)
    fails_once = in_one_thread and not checks
    assert statuses == [200, 200, 500 if fails_once else 200, 200]
    assert count == (2 if in_one_thread else 4)
