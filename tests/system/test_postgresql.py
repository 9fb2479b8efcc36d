"""PostgreSQL: which of the server's processes works for whom, and until when.

One of them, a backend, works for one connection, and no two threads share that.
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
    pytest.mark.skipif(BACKEND != "postgresql", reason="it's for `make postgresql`"),
    pytest.mark.django_db(transaction=True),
]


class Undo(Exception):
    """Ends a transaction."""


def ask(question, alias="default"):
    """Return the answer of the backend that works for this thread."""
    with connections[alias].cursor() as cursor:
        return cursor.execute(question).fetchone()[0]


def backend(alias="default"):
    return ask("SELECT pg_backend_pid()", alias)


def terminate_backends(alias):
    """Have the server end all connections to a database."""
    with postgresql_session("postgres") as session:
        ended = session.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = %s",
            [connections.settings[alias]["NAME"]],
        ).fetchall()
    assert ended
    assert all(done for (done,) in ended)


def count_from_outside(model):
    """Return how many rows are committed."""
    table = model._meta.db_table
    with postgresql_session(connection.settings_dict["NAME"]) as session:
        return session.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


# What asynchronous receivers may not do


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


def attempt_all():
    """Return what is said against each operation that is refused."""
    refused = {}
    for name, operation in OPERATIONS.items():
        try:
            operation()
        except SynchronousOnlyOperation as error:
            refused[name] = str(error)
    return refused


def test_what_is_not_for_asynchronous_code(assert_same_swapped):
    signal = Signal()

    async def receiver(**kwargs):
        at_once = attempt_all()
        await asyncio.sleep(0.001)
        return at_once, attempt_all()

    def send():
        with transaction.atomic():
            return signal.send(None), signal.send_robust(None), Tag.objects.count()

    async def asend():
        return await signal.asend(None), await signal.asend_robust(None)

    def scenario():
        with connected(signal, receiver):
            *answers, count = send()
            answers += asyncio.run(asend())
        return [response for [(_, response)] in answers], count

    responses, count = assert_same_swapped(scenario)
    assert count == 0
    for refused in chain.from_iterable(responses):
        assert refused.keys() == OPERATIONS.keys()


def test_an_attempt_that_is_not_caught(assert_same_swapped):
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
            for attempt in (save, async_to_sync(asave), lambda: asyncio.run(asave())):
                try:
                    attempt()
                except SynchronousOnlyOperation as error:
                    errors.append(str(error))
        names = list(Tag.objects.values_list("name", flat=True))
        Tag.objects.all().delete()
        return errors, names

    errors, names = assert_same_swapped(scenario)
    assert len(errors) == 3
    assert names == ["alone", "alone"]


# Whose transaction it is


@pytest.fixture
def compare_sent_in_transaction(assert_same_swapped):
    """Compare what becomes of a transaction with asynchronous receivers in it.

    They have ``work`` done in synchronous code, at once and after having waited. What
    that has noted and returned is compared, with who did it, and what comes after. With
    ``undo``, that is an error of the sender.
    """

    def run_both(work, undo=False):
        def scenario():
            notes = []
            home = threading.get_ident(), backend()

            def work_there():
                notes.append((threading.get_ident(), backend()) == home)
                notes.append(work(notes))

            async def receiver(**kwargs):
                await sync_to_async(work_there)()
                await asyncio.sleep(0.001)
                await sync_to_async(work_there)()

            try:
                with connected(post_save, receiver, sender=Tag), transaction.atomic():
                    Tag.objects.create(name="first")
                    notes.append("sent")
                    if undo:
                        raise Undo
            except (Undo, DatabaseError) as error:
                notes.append((type(error).__name__, backend() == home[1]))
            notes.append([model.objects.count() for model in (Tag, Customer)])
            for model in (Tag, Customer):
                model.objects.all().delete()
            return notes

        return assert_same_swapped(scenario)

    return run_both


def look(model=Tag):
    return model.objects.count(), count_from_outside(model)


def test_what_is_not_committed_yet(compare_sent_in_transaction):
    def work(notes):
        Customer.objects.create(name="Ann")
        return look(), connection.in_atomic_block

    notes = compare_sent_in_transaction(work)
    assert notes == [*[True, ((1, 0), True)] * 2, "sent", [1, 2]]


def test_what_is_rolled_back(compare_sent_in_transaction):
    def work(notes):
        Customer.objects.create(name="Ann")
        return look(Customer)

    notes = compare_sent_in_transaction(work, undo=True)
    assert notes == [True, (1, 0), True, (2, 0), "sent", ("Undo", True), [0, 0]]


def test_what_is_for_after_the_commit(compare_sent_in_transaction):
    def work(notes):
        transaction.on_commit(lambda: notes.append(("committed", look())))
        with transaction.atomic():
            transaction.on_commit(lambda: notes.append("never"))
            transaction.set_rollback(True)

    notes = compare_sent_in_transaction(work)
    committed = [("committed", (1, 1))] * 2
    assert notes == [*[True, None] * 2, "sent", *committed, [1, 0]]


def test_what_fails(compare_sent_in_transaction):
    """PostgreSQL refuses everything in a transaction after an error."""

    def work(notes):
        try:
            ask("SELECT 1 / 0")
        except DatabaseError as error:
            return str(error)

    notes = compare_sent_in_transaction(work)
    assert notes == [True, "division by zero", ("InternalError", True), [0, 0]]


def test_what_fails_and_is_undone(compare_sent_in_transaction):
    def work(notes):
        Customer.objects.create(name="Ann")
        try:
            with transaction.atomic():
                Customer.objects.create(name="Bob")
                ask("SELECT 1 / 0")
        except DatabaseError as error:
            return str(error)

    notes = compare_sent_in_transaction(work)
    assert notes == [*[True, "division by zero"] * 2, "sent", [1, 2]]


# Who sends from asynchronous code


RUNNERS = {
    "run": lambda function: asyncio.run(function()),
    "async_to_sync": lambda function: async_to_sync(function)(),
}


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_the_asynchronous_orm(assert_same_swapped, run):
    """One backend works for it and for all that listens."""
    signals = [post_save, post_delete, user_logged_in]

    async def main():
        tag = Tag(name="new")
        await tag.asave()
        await tag.adelete()
        user = await sync_to_async(User.objects.create_user)("ann", password="sesame")
        assert await AsyncClient().alogin(username="ann", password="sesame")
        await user.adelete()
        pid = await sync_to_async(backend)()
        await sync_to_async(lambda: connection.close())()
        return pid

    def scenario():
        seen = defaultdict(list)

        def receive(signal, **kwargs):
            seen[signals.index(signal), "sync"].append(backend())

        async def receive_asynchronously(signal, **kwargs):
            seen[signals.index(signal), "async"].append(await sync_to_async(backend)())

        with ExitStack() as stack:
            for signal in signals:
                both = connected(signal, receive, receive_asynchronously)
                stack.enter_context(both)
            pid = run(main)
        assert {pid} == {pid for pids in seen.values() for pid in pids}
        return sorted((*who, len(pids)) for who, pids in seen.items())

    counts = assert_same_swapped(scenario)
    assert len(counts) == 6


# Which connections there are


class Backends(dict):
    """The numbers of backends, in the order in which they come to be known."""

    def look(self):
        """Return the number of that which works for this thread, if one does."""
        held = connections["scratch"].connection
        if held is not None:
            return self.setdefault(held.info.backend_pid, len(self) + 1)


@pytest.fixture
def backends():
    return Backends()


def test_a_connection_that_was_ended(compare, new_database, backends):
    def scenario():
        backends.clear()
        with new_database():
            pids = [backend("scratch"), backend("scratch")]
            terminate_backends("scratch")
            errors = []
            for _ in range(2):
                try:
                    backend("scratch")
                except OperationalError as error:
                    errors.append(error)
            close_old_connections()
            pids.append(backend("scratch"))
        return len(set(pids)), errors

    seen = compare(scenario, sent=["connection_created"], view=backends.look)
    assert [call.view for call in seen.of("connection_created")] == [1, 2]
    count, errors = seen.answer
    assert count == len(errors) == 2


def test_a_connection_of_each_thread(compare, new_database, backends):
    def look():
        backend("scratch")
        return backends.look()

    def look_and_close():
        try:
            return look()
        finally:
            close_new_database()

    async def look_twice():
        seen = []
        for _ in range(2):
            async with ThreadSensitiveContext():
                seen.append(await sync_to_async(look_and_close)())
        return seen

    def scenario():
        backends.clear()
        with new_database(), ThreadPoolExecutor(1) as pool:
            return (
                look(),
                pool.submit(look_and_close).result(),
                asyncio.run(look_twice()),
                async_to_sync(look_twice)(),
            )

    seen = compare(scenario, sent=["connection_created"], asynchronous=True)
    # It's this thread that works for what has been called from it.
    assert seen.answer == [1, 2, [3, 4], [1, 5]]
    assert len(seen.of("connection_created")) == 5


def test_what_prepares_a_connection(assert_same_swapped, new_database):
    """Asynchronous receivers get to the connection that they are told of."""

    def prepare(connection):
        with connection.cursor() as cursor:
            cursor.execute("SET application_name = 'prepared'")

    async def receive(connection, **kwargs):
        await sync_to_async(prepare)(connection)

    def use():
        return ask("SHOW application_name", "scratch")

    async def use_asynchronously():
        try:
            return await sync_to_async(use)()
        finally:
            await sync_to_async(close_new_database)()

    def scenario():
        with new_database(), connected(connection_created, receive):
            return use(), asyncio.run(use_asynchronously())

    assert assert_same_swapped(scenario) == ("prepared", "prepared")


# What is closed when a request ends


SENT = ["request_started", "connection_created", "request_finished"]


@pytest.fixture
def compare_served(compare, record, new_database, backends):
    """Do what ``compare`` does with a scenario that gets a client of a server.

    It's also told of the settings of the database.
    """

    def run_both(serve, scenario, **settings):
        def run():
            backends.clear()
            with new_database(**settings), serve() as port:
                return scenario(Client(port, record))

        return compare(run, sent=SENT, view=backends.look)

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
def test_a_connection_that_is_kept(compare_served, checks, statuses, at_start, at_end):
    def scenario(client):
        answers = [client.visit("GET", "/echo/") for _ in range(2)]
        terminate_backends("scratch")
        answers += [client.visit("GET", "/echo/") for _ in range(2)]
        return [status for status, *_ in answers]

    seen = compare_served(
        serve_wsgi, scenario, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=checks
    )
    assert seen.answer == statuses
    assert views(seen, "request_started") == at_start
    assert views(seen, "connection_created") == [1, 2]
    assert views(seen, "request_finished") == at_end


servers = pytest.mark.parametrize("serve", [serve_wsgi, serve_asgi])


@servers
@pytest.mark.parametrize("path", ["/echo/", "/async/echo/"])
def test_a_connection_that_a_receiver_made(compare_served, backends, serve, path):
    """The view uses it, unless Django has closed it before."""
    made = []

    def use():
        backend("scratch")
        made.append((backends.look(), connections["scratch"]))

    async def make(**kwargs):
        await sync_to_async(use)()

    def scenario(client):
        made.clear()
        with connected(request_started, make):
            statuses = [client.visit("GET", path)[0] for _ in range(2)]
        numbers = [number for number, _ in made]
        return statuses, numbers, [wrapper.connection for _, wrapper in made]

    seen = compare_served(serve, scenario)
    # Up to 6.0, in an ASGI server, these receivers come before Django's own.
    is_kept = serve is serve_wsgi or django.VERSION >= (6, 1)
    assert seen.answer == [[200, 200], [1, 2] if is_kept else [1, 3], [None, None]]
    assert views(seen, "connection_created") == [1, 2] if is_kept else [1, 2, 3, 4]
    assert views(seen, "request_finished") == [None, None]


@servers
@pytest.mark.parametrize("path", ["/echo/", "/async/echo/"])
def test_a_connection_that_is_ended_at_once(compare_served, serve, path):
    """The view fails, and Django closes what is left."""

    async def end(**kwargs):
        await sync_to_async(terminate_backends)("scratch")

    def scenario(client):
        with connected(connection_created, end):
            answer = client.visit("GET", path)
        return [status for status, *_ in (answer, client.visit("GET", path))]

    seen = compare_served(serve, scenario)
    assert seen.answer == [500, 200]
    assert views(seen, "connection_created") == [1, 2]
    assert views(seen, "request_finished") == [None, None]


@pytest.mark.parametrize("in_one_thread", [False, True])
@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize("path", ["/echo/", "/async/echo/"])
def test_a_connection_that_is_ended_between_requests(
    assert_same_swapped, new_database, path, checks, in_one_thread
):
    """Django's own receivers of request_started clean up the thread that there is.

    Requests have a thread each, unless the program has one for all of them.
    """

    async def make_requests():
        answers = [await request(path) for _ in range(2)]
        await sync_to_async(terminate_backends, thread_sensitive=False)("scratch")
        answers += [await request(path) for _ in range(2)]
        return [status for [status], _ in answers]

    async def make_requests_in_one_thread():
        async with ThreadSensitiveContext():
            statuses = await make_requests()
            await sync_to_async(close_new_database)()
            return statuses

    made = []

    def scenario():
        made.clear()
        options = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": checks}
        with new_database(**options), connected(connection_created, note):
            make = make_requests_in_one_thread if in_one_thread else make_requests
            statuses = asyncio.run(make())
            for connection in made:
                connection.inc_thread_sharing()
                connection.close()
            return statuses, len(made)

    def note(connection, **kwargs):
        made.append(connection)

    statuses, count = assert_same_swapped(scenario)
    is_noticed = in_one_thread and not checks
    assert statuses == [200, 200, 500 if is_noticed else 200, 200]
    assert count == (2 if in_one_thread else 4)
