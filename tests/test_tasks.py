"""Tasks that are connected, on stock Django and swapped, with real backends.

What becomes of tasks when processes are killed is in ``tests/delivery``.
"""

from __future__ import annotations

import gc
import inspect
import math
import sys
import types
import warnings
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import django
import pytest
from asgiref.sync import (
    async_to_sync,
    markcoroutinefunction,
)
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.core.checks import run_checks
from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured
from django.core.management import call_command
from django.db import connections, models, transaction
from django.db.models.signals import (
    m2m_changed,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from django.dispatch import Signal
from django.test import override_settings
from django.utils.safestring import mark_safe

import altdispatch.checks  # noqa: F401 - it registers them.
from altdispatch.listing import list_signals
from altdispatch.tasks import connect_task, disconnect_task, on_commit, task_receiver
from altdispatch.utils import muted

from .conftest import receivers_restored
from .system.shop.models import Book, Product, Tag

# Its table isn't among those that the other tests migrate.
with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "django_tasks_db"]):
    from django_tasks_db.models import DBTaskResult

    # Its admin would be on the site of other tests, whose projects don't have the app.
    if admin.site.is_registered(DBTaskResult):
        admin.site.unregister(DBTaskResult)

try:
    from django.tasks import task

    PACKAGE = "django.tasks"
except ImportError:
    # Before Django 6.0.
    from django_tasks import task

    PACKAGE = "django_tasks"

TASKS = {
    "default": {"BACKEND": "django_tasks_db.DatabaseBackend"},
    "dummy": {"BACKEND": f"{PACKAGE}.backends.dummy.DummyBackend"},
    "immediate": {"BACKEND": f"{PACKAGE}.backends.immediate.ImmediateBackend"},
}
placed = Signal()

pytestmark = pytest.mark.usefixtures("stock_or_swapped")


class RollBack(Exception):
    pass


@contextmanager
def rolled_back(using="default"):
    with suppress(RollBack), transaction.atomic(using):
        yield
        raise RollBack


@task()
def reindex(**arguments):
    pass


@task()
def announce(**arguments):
    pass


def payload(instance, **kwargs):
    return {"name": instance.name}


def payload_of_tags(sender, instance, **kwargs):
    return {"name": instance.name} if sender is Tag else None


def make(backend="default", task=reindex):
    return task.using(backend=backend)


def stored(database="default"):
    """Return the arguments of the tasks that are in the database, in their order."""
    rows = DBTaskResult.objects.using(database).order_by("enqueued_at")
    return [row.args_kwargs["kwargs"] for row in rows]


def in_memory(task):
    return [result.kwargs for result in task.get_backend().results]


class Router:
    """Keeps tasks, or what else it's told to, in the other database."""

    in_other: tuple[type, ...] = (DBTaskResult,)

    def db_for_write(self, model, **hints):
        return "other" if model in self.in_other else None


@pytest.fixture(autouse=True)
def backends():
    with override_settings(TASKS=TASKS):
        yield


@pytest.fixture(autouse=True)
def signals():
    """What a test connects is disconnected at its end."""
    with receivers_restored(
        placed, pre_save, post_save, pre_delete, post_delete, m2m_changed
    ):
        yield


@pytest.fixture(scope="module", autouse=True)
def table(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        for connection in connections.all():
            with connection.schema_editor() as editor:
                editor.create_model(DBTaskResult)
        yield
        for connection in connections.all():
            with connection.schema_editor() as editor:
                editor.delete_model(DBTaskResult)


@pytest.fixture
def rows(transactional_db):
    """Leave no rows behind where nothing is rolled back."""
    yield
    for connection in connections.all():
        DBTaskResult.objects.using(connection.alias).all().delete()


def on_databases(test):
    mark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
    return pytest.mark.usefixtures("rows")(mark(test))


in_test_case = pytest.mark.django_db(databases=["default", "other"])


# When.


@on_databases
@pytest.mark.parametrize("using", ["default", "other"])
def test_in_the_transaction(using):
    Router.in_other = (DBTaskResult, Tag) if using == "other" else ()
    with override_settings(DATABASE_ROUTERS=[Router()]):
        connect_task(post_save, make(), sender=Tag, payload=payload)
        with rolled_back(using):
            Tag.objects.using(using).create(name="rolled back")
            assert stored(using) == [{"name": "rolled back"}]
        assert stored(using) == []
        with transaction.atomic(using):
            Tag.objects.using(using).create(name="kept")
            with rolled_back(using):
                Tag.objects.using(using).create(name="in a savepoint")
        assert stored(using) == [{"name": "kept"}]


@on_databases
@pytest.mark.parametrize("using", ["default", "other"])
def test_on_commit(using):
    dummy = make("dummy")
    connect_task(post_save, dummy, sender=Tag, payload=payload, when="commit")
    with transaction.atomic(using, durable=True):
        tag = Tag.objects.using(using).create(name="kept")
        # What was queued is what was sent.
        tag.name = "changed"
        with rolled_back(using):
            Tag.objects.using(using).create(name="in a savepoint")
        assert in_memory(dummy) == []
    with rolled_back(using):
        Tag.objects.using(using).create(name="rolled back")
    assert in_memory(dummy) == [{"name": "kept"}]
    Tag.objects.using(using).create(name="at once")
    assert in_memory(dummy)[1:] == [{"name": "at once"}]


@on_databases
def test_now():
    dummy = make("dummy")
    connect_task(post_save, dummy, sender=Tag, payload=payload, when="now")
    with rolled_back():
        Tag.objects.create(name="rolled back")
    assert in_memory(dummy) == [{"name": "rolled back"}]


@on_databases
def test_outside_a_transaction_it_is_stored_with_a_warning():
    connect_task(post_save, make(), sender=Tag, payload=payload)
    with pytest.warns(RuntimeWarning, match="reindex was queued outside") as warned:
        Tag.objects.create(name="alone")
    # The line that saves, not one of Django's.
    assert warned[0].filename == __file__
    with warnings.catch_warnings(), suppress(RuntimeWarning):
        warnings.simplefilter("error")
        Tag.objects.create(name="all the same")
    assert stored() == [{"name": "alone"}, {"name": "all the same"}]


@on_databases
def test_which_signals_django_sends_in_a_transaction():
    """save() sends its signals before and after the one that it opens."""

    def payload(sender, signal, **kwargs):
        return {"signal": sent[signal]} if sender is Tag else None

    sent = {pre_save: "pre_save", pre_delete: "pre_delete", post_delete: "post_delete"}
    for signal in sent:
        connect_task(signal, make(), payload=payload)
    with pytest.warns(RuntimeWarning, match="If the process dies in between, one"):
        tag = Tag.objects.create(name="one")
    tag.delete()
    names = [row["signal"] for row in stored()]
    assert names == ["pre_save", "pre_delete", "post_delete"]


@on_databases
def test_autocommit_that_is_off():
    """The transaction of a program that manages them itself is one."""
    connect_task(post_save, make(), sender=Tag, payload=payload)
    connect_task(post_delete, make(), sender=Tag, payload=payload, when="commit")
    transaction.set_autocommit(False)
    try:
        tag = Tag.objects.create(name="rolled back")
        assert stored() == [{"name": "rolled back"}]
        transaction.rollback()
        assert stored() == []
        with pytest.raises(transaction.TransactionManagementError):
            post_delete.send(Tag, instance=tag, using="default")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@in_test_case
def test_in_a_test_case(django_capture_on_commit_callbacks):
    dummy = make("dummy")
    connect_task(post_save, make(), sender=Tag, payload=payload)
    connect_task(post_delete, dummy, sender=Tag, payload=payload, when="commit")
    tag = Tag.objects.create(name="one")
    assert stored() == [{"name": "one"}]
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        tag.delete()
        assert in_memory(dummy) == []
    assert len(callbacks) == 1
    assert in_memory(dummy) == [{"name": "one"}]


@in_test_case
def test_the_signals_of_relations():
    def added(action, pk_set, **kwargs):
        return {"added": sorted(pk_set)} if action == "post_add" else None

    connect_task(m2m_changed, make(), sender=Product.tags.through, payload=added)
    product, tag = Product.objects.create(name="p"), Tag.objects.create(name="t")
    product.tags.add(tag)
    product.tags.remove(tag)
    assert stored() == [{"added": [tag.pk]}]


def test_an_error_of_the_backend_comes_out():
    queue = make("dummy").using(queue_name="default")
    connect_task(placed, queue, payload=lambda **kwargs: {}, when="now")
    tasks = {**TASKS, "dummy": {**TASKS["dummy"], "QUEUES": ["another"]}}
    with (
        override_settings(TASKS=tasks),
        pytest.raises(Exception, match="Queue 'default' is not valid"),
    ):
        placed.send(None)


# The payload.


@in_test_case
def test_fixtures_queue_nothing_unless_asked_to():
    connect_task(post_save, make(), sender=Tag, payload=payload)
    call_command("loaddata", "shop", verbosity=0)
    assert Tag.objects.exists()
    assert stored() == []
    connect_task(post_save, make(task=announce), Tag, payload=payload, raw=True)
    call_command("loaddata", "shop", verbosity=0)
    assert len(stored()) == Tag.objects.count()


@in_test_case
def test_fixtures_and_the_signals_of_relations():
    """Before Django 6.1, these don't say that they are sent for a fixture."""
    connect_task(
        m2m_changed,
        make(),
        sender=Product.tags.through,
        payload=lambda action, **kwargs: {} if action == "post_add" else None,
    )
    call_command("loaddata", "shop", verbosity=0)
    assert len(stored()) == (0 if django.VERSION >= (6, 1) else 2)


def test_no_payload_is_no_task():
    dummy = make("dummy")
    connect_task(placed, dummy, payload=lambda **kwargs: None, when="now")
    assert placed.send(None)[0][1] is None
    assert in_memory(dummy) == []


def test_the_payload_gets_what_a_receiver_gets():
    seen = []
    connect_task(
        placed, make("dummy"), payload=lambda **kw: seen.append(kw), when="now"
    )
    placed.connect(lambda **kw: seen.append(kw), weak=False)
    placed.send(Tag, number=1)
    assert seen == [{"signal": placed, "sender": Tag, "number": 1}] * 2


class Size(models.TextChoices):
    LARGE = "large"


class Level(models.IntegerChoices):
    HIGH = 3


@in_test_case
def test_a_payload_becomes_plain():
    lines = [1, {"a": (2.5, None)}]
    given = {
        "lines": lines,
        "size": Size.LARGE,
        "level": Level.HIGH,
        "html": mark_safe("<p>"),
        "flag": True,
    }
    dummy = make("dummy")
    connect_task(placed, dummy, payload=lambda **kwargs: given, when="now")
    connect_task(placed, make("immediate"), payload=lambda **kwargs: given, when="now")
    placed.send(None)
    (queued,) = in_memory(dummy)
    assert queued == {
        "lines": [1, {"a": [2.5, None]}],
        "size": "large",
        "level": 3,
        "html": "<p>",
        "flag": True,
    }
    assert {type(value) for value in queued.values()} == {list, str, int, bool}
    assert queued["lines"] is not lines


class Ratio(float):
    pass


NESTED: list[object] = []
NESTED.append(NESTED)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"order": Tag(name="t")},
            r"'order' is of type tests\.system\.shop\.models\.Tag",
        ),
        ({"a": 1, "b": {"c": [0, {1}]}}, r"'b'\['c'\]\[1\] is of type builtins\.set"),
        ({"raw": b"bytes"}, "'raw' is of type builtins.bytes"),
        ({"ratio": math.nan}, "'ratio' is nan"),
        ({"ratio": Ratio("nan")}, "'ratio' is nan"),
        ({"ratio": [math.inf]}, r"'ratio'\[0\] is inf"),
        ({"by_id": {1: 2}}, "the key 1 in 'by_id' is not a string"),
        ({1: 2}, "the key 1 is not a string"),
        ({"self": 1}, "the key 'self', which enqueue"),
        ({"nested": NESTED}, "'nested' is nested too deeply"),
        (Tag(name="t"), "must be a dictionary or None, not Tag"),
        ([], "must be a dictionary or None, not list"),
    ],
)
@pytest.mark.parametrize("when", ["commit", "now"])
def test_what_is_no_json(given, message, when):
    dummy = make("dummy")
    connect_task(placed, dummy, payload=lambda **kwargs: given, when=when)
    with pytest.raises(TypeError, match=message) as caught:
        placed.send(None)
    assert "tests.test_tasks.reindex" in str(caught.value)
    assert in_memory(dummy) == []


# What is refused.


def test_a_backend_that_stores_nothing():
    for backend in ("dummy", "immediate"):
        with pytest.raises(ImproperlyConfigured, match=r"reindex .* TASK_DATABASES"):
            connect_task(post_save, make(backend), sender=Tag, payload=payload)
    assert not post_save.has_listeners(Tag)


@override_settings(ALTDISPATCH={"TASK_DATABASES": {"dummy": "default"}})
@in_test_case
def test_a_backend_that_is_said_to_store():
    dummy = make("dummy")
    connect_task(post_save, dummy, sender=Tag, payload=payload)
    Tag.objects.create(name="one")
    assert in_memory(dummy) == [{"name": "one"}]
    with pytest.raises(
        ImproperlyConfigured, match="'default', and the data is in 'oth"
    ):
        Tag.objects.using("other").create(name="two")


@in_test_case
@pytest.mark.parametrize("in_other", [DBTaskResult, Tag])
def test_databases_that_differ(in_other):
    Router.in_other = (in_other,)
    with override_settings(DATABASE_ROUTERS=[Router()]):
        for sender in (Tag, "shop.Tag"):
            with pytest.raises(ImproperlyConfigured, match="no transaction is of both"):
                connect_task(post_save, make(), sender=sender, payload=payload)
        # It's for whatever is sent, the rows of tasks among them.
        connect_task(post_save, make(), payload=payload_of_tags)
        with pytest.raises(ImproperlyConfigured, match="no transaction is of both"):
            Tag.objects.create(name="one")
        database = Router().db_for_write(DBTaskResult) or "default"
        Tag(name="two").save(using=database)
        assert stored(database) == [{"name": "two"}]


@in_test_case
def test_a_signal_without_a_database_is_about_the_default_one():
    connect_task(placed, make(), payload=lambda **kwargs: {"a": 1})
    ((_, result),) = placed.send(None)
    assert result.kwargs == {"a": 1}
    assert stored() == [{"a": 1}]
    with pytest.raises(ImproperlyConfigured, match="the data is in 'other'"):
        placed.send(None, using="other")


def test_the_check():
    def messages():
        return [one for one in run_checks() if one.id == "altdispatch.E006"]

    connect_task(post_save, make(), sender=Tag, payload=payload)
    connect_task(post_save, make(), sender="shop.Never", payload=payload)
    connect_task(post_save, make("dummy"), sender=Book, payload=payload, when="now")
    assert messages() == []
    Router.in_other = (Tag,)
    with override_settings(DATABASE_ROUTERS=[Router()]):
        (message,) = messages()
        # The task of another connection doesn't say the same.
        connect_task(post_delete, make(), sender=Book, payload=payload)
        Router.in_other = (Tag, Book)
        assert len({one.msg for one in messages()}) == 2
    assert message.msg.startswith(
        "django.db.models.signals.post_save, sent by shop.Tag: "
        "tests.test_tasks.reindex is connected"
    )
    assert message.is_serious()
    # What waits for a model would be told of by Django's own check.
    del apps._pending_operations["shop", "never"]


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        (reindex.func, {}, TypeError, "@task_receiver stands above it"),
        (None, {"payload": None}, TypeError, "payload must be a function, not None"),
        (None, {"when": "later"}, ValueError, "'transaction', 'commit', 'now'"),
    ],
)
def test_wrong_arguments(task, options, error, message):
    with pytest.raises(error, match=message):
        connect_task(placed, task or make(), **{"payload": payload, **options})
    assert placed.receivers == []


@pytest.mark.parametrize("change", [connect_task, disconnect_task])
def test_what_is_no_signal_or_no_task(change):
    options = {"payload": payload} if change is connect_task else {}
    for wrong in ([placed], (placed,), None, "placed"):
        with pytest.raises(
            TypeError, match=r"not a signal. Only task_receiver\(\) takes"
        ):
            change(wrong, make(), **options)
    with pytest.raises(TypeError, match=r"is not a task\. Decorate the function"):
        change(placed, reindex.func, **options)


def test_an_engine_that_is_not_installed(monkeypatch):
    """Its models are imported by the other tests."""
    monkeypatch.delitem(sys.modules, "django_tasks_db.models")
    with pytest.raises(ImproperlyConfigured, match='needs "django_tasks_db" in INS'):
        connect_task(post_save, make(), sender=Tag, payload=payload)


# Connecting.


def test_connecting_twice_is_connecting_once():
    dummy = make("dummy")
    options = {"payload": lambda **kwargs: {}, "when": "now"}
    for _ in range(2):
        connect_task(placed, dummy, **options)
        connect_task(placed, make("dummy", announce), **options)
        connect_task(placed, dummy, sender=Tag, **options)
        connect_task(placed, dummy, dispatch_uid="another", **options)
        connect_task(placed, make("immediate"), **options)
    assert len(placed.receivers) == 5
    gc.collect()
    assert len(placed.send(Tag)) == 5
    assert len(placed.send(None)) == 4
    assert disconnect_task(placed, dummy)
    assert not disconnect_task(placed, dummy)
    assert disconnect_task(placed, dummy, dispatch_uid="another")
    assert disconnect_task(placed, dummy, sender=Tag)
    assert len(placed.send(Tag)) == 2


@pytest.mark.parametrize("sender", [None, Tag, "shop.Tag"])
def test_connecting_again_with_something_else(sender):
    dummy = make("dummy")
    options = {"sender": sender, "payload": payload, "when": "commit"}
    connect_task(post_save, dummy, **options)
    connect_task(post_save, make("dummy"), **options)
    for changed in (
        {"payload": lambda **kwargs: {}},
        {"payload": payload_of_tags},
        {"when": "now"},
        {"raw": True},
        {"task": dummy.using(priority=3)},
        {"task": dummy.using(run_after=datetime(2100, 1, 1, tzinfo=UTC))},
    ):
        with pytest.raises(ValueError, match="reindex is already connected"):
            connect_task(post_save, **{"task": dummy, **options, **changed})
        connect_task(
            post_save,
            **{"task": dummy, **options, **changed},
            dispatch_uid=repr(changed),
        )
    assert disconnect_task(post_save, dummy, sender)
    connect_task(post_save, dummy, **{**options, "when": "now"})


def test_connecting_again_after_a_reload():
    """Of lambdas and local functions, the name doesn't tell."""
    dummy = make("dummy")

    again = types.FunctionType(payload.__code__, globals())
    connect_task(placed, dummy, payload=payload, when="now")
    connect_task(placed, dummy, payload=again, when="now")
    assert len(placed.receivers) == 1

    def make_payload():
        return lambda **kwargs: {}

    connect_task(post_save, dummy, payload=make_payload(), when="now")
    with pytest.raises(ValueError, match="already connected"):
        connect_task(post_save, dummy, payload=make_payload(), when="now")


def test_models_by_name():
    options = {"payload": payload, "when": "now"}
    connect_task(post_save, make("dummy"), sender="shop.Tag", **options)
    connect_task(post_save, make("dummy"), sender=Tag, **options)
    assert len(post_save._live_receivers(Tag)[0]) == 1
    assert not post_save.has_listeners(Book)
    assert disconnect_task(post_save, make("dummy"), sender="shop.Tag")
    assert not disconnect_task(post_save, make("dummy"), sender=Tag)


def test_models_by_name_with_other_signals():
    """Django compares ids, also that of a string."""
    options = {"payload": lambda **kwargs: {}, "when": "now"}
    task_receiver(placed, sender="shop.Tag", **options)(make("dummy"))
    connect_task(placed, make("dummy"), sender="shop.tag", **options)
    assert (len(placed.send(Tag)), len(placed.send(Book))) == (1, 0)
    for change in (
        lambda sender: connect_task(placed, make("dummy"), sender=sender, **options),
        lambda sender: disconnect_task(placed, make("dummy"), sender=sender),
    ):
        with pytest.raises(LookupError, match="Never"):
            change("shop.Never")
        with pytest.raises(ValueError, match="'Tag' is not a sender"):
            change("Tag")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(apps, "models_ready", False)
            with pytest.raises(AppRegistryNotReady, match=r"in the ready\(\)"):
                change("shop.Tag")
    assert disconnect_task(placed, make("dummy"), sender="shop.Tag")
    assert placed.receivers == []


def test_the_decorator():
    dummy = make("dummy")
    options = {"payload": lambda **kwargs: {}, "when": "now"}
    assert task_receiver(placed, **options)(dummy) is dummy
    assert task_receiver([placed, post_save], sender=Tag, **options)(dummy) is dummy
    assert len(placed.send(Tag)) == 2
    assert len(post_save.send(Tag, instance=None)) == 1


def test_it_is_listed_as_the_task(capsys):
    connect_task(placed, make("dummy"), sender=Tag, payload=payload, when="commit")
    (found,) = [one for one in list_signals() if one.name == f"{__name__}.placed"]
    (connection,) = found.connections
    assert connection.receiver == f"{__name__}.reindex"
    assert connection.file == __file__
    assert connection.line == inspect.getsourcelines(reindex.func)[1]
    assert (connection.sender, connection.task) == ("shop.Tag", "commit")
    from altdispatch.management.commands.altdispatch import Command

    call_command(Command(), "signals", "--signal=placed")
    assert "strong, task (commit), uid" in capsys.readouterr().out


def test_it_has_the_name_of_the_task(caplog):
    connect_task(placed, make("dummy"), payload=lambda: None, when="now")
    connect_task(post_save, make(), sender="shop.Never", payload=payload)
    placed.send_robust(None)
    assert "Error calling reindex in Signal.send_robust()" in caplog.text
    messages = [one.msg for one in run_checks() if one.id == "signals.E001"]
    del apps._pending_operations["shop", "never"]
    assert "The function 'reindex' was connected to the" in messages[0]


def test_it_is_muted_as_the_task_or_its_function():
    async def apayload(**kwargs):
        return {}

    options = {"payload": lambda **kwargs: {}, "when": "now"}
    connect_task(placed, make("dummy"), **options)
    connect_task(placed, make("immediate"), payload=apayload, when="now")
    connect_task(placed, make("dummy", announce), **options)
    for muting in (make("dummy"), reindex, reindex.func):
        with muted(placed, receivers=[muting]):
            ((_, result),) = placed.send(None)
            assert result.task.func is announce.func
    assert len(placed.send(None)) == 3


# Asynchronous code.


@on_databases
def test_asend_with_a_payload_that_is_asynchronous():
    called = []

    async def apayload(number, **kwargs):
        return {"count": await Tag.objects.acount(), "number": number}

    def spy(backend):
        aenqueue = backend.aenqueue

        async def wrapper(*args, **kwargs):
            called.append("aenqueue")
            return await aenqueue(*args, **kwargs)

        return wrapper

    dummy = make("dummy")
    connect_task(placed, dummy, payload=apayload, when="now")
    connect_task(placed, make(), payload=apayload)

    async def asend():
        return await placed.asend(None, number=1)

    with pytest.MonkeyPatch.context() as patch:
        for backend in (dummy.get_backend(), make().get_backend()):
            patch.setattr(backend, "aenqueue", spy(backend))
        with transaction.atomic():
            Tag.objects.create(name="seen by the payload")
            # The thread that waits has the transaction, and the work for it.
            answers = async_to_sync(asend)()
            placed.send(None, number=2)
        with rolled_back():
            async_to_sync(asend)()
    assert len(answers) == 2
    numbers = [{"count": 1, "number": 1}, {"count": 1, "number": 2}]
    assert stored() == numbers
    assert in_memory(dummy) == [*numbers, numbers[0]]
    assert called == ["aenqueue"] * 6


@on_databases
@pytest.mark.parametrize("is_async", [True, False])
def test_asend_and_commit(is_async):
    async def apayload(**kwargs):
        return {"a": 1}

    def payload(**kwargs):
        return {"a": 1}

    dummy = make("dummy")
    chosen = apayload if is_async else payload
    connect_task(placed, dummy, payload=chosen, when="commit")
    assert placed.receivers[0][-1] is is_async
    with transaction.atomic():
        async_to_sync(placed.asend)(None)
        assert in_memory(dummy) == []
    assert in_memory(dummy) == [{"a": 1}]
    with rolled_back():
        async_to_sync(placed.asend)(None)
    async_to_sync(placed.asend)(None)
    assert in_memory(dummy) == [{"a": 1}] * 2


def test_a_payload_that_is_marked_as_a_coroutine_function():
    """As Django's own decorators mark what they return."""

    async def apayload(**kwargs):
        return {"a": 1}

    dummy = make("dummy")
    marked = markcoroutinefunction(lambda **kwargs: apayload(**kwargs))
    connect_task(placed, dummy, payload=marked, when="now")
    async_to_sync(placed.asend)(None)
    assert in_memory(dummy) == [{"a": 1}]


def test_asend_and_fixtures():
    async def apayload(**kwargs):
        return {}

    dummy = make("dummy")
    for signal in (post_save, placed):
        connect_task(signal, dummy, payload=apayload, when="now")
    async_to_sync(post_save.asend)(Tag, instance=None, raw=True)
    assert in_memory(dummy) == []
    # There it is something else.
    async_to_sync(placed.asend)(None, raw=b"bytes")
    assert in_memory(dummy) == [{}]


@on_databases
def test_asynchronous_code_without_a_transaction_is_warned():
    async def apayload(**kwargs):
        return {"a": 1}

    connect_task(placed, make(), payload=apayload)
    with pytest.warns(RuntimeWarning, match="outside a transaction"):
        async_to_sync(placed.asend)(None)
    assert stored() == [{"a": 1}]


# Beside on_commit().


def test_on_commit_of_a_task():
    with pytest.raises(TypeError, match=r"connect_task\(\) is for tasks"):
        on_commit(announce)


def test_debug_accepts_what_is_connected(settings):
    settings.DEBUG = True
    connect_task(placed, make("dummy"), payload=payload, when="now")
    placed.connect(on_commit(announce.func))
    assert len(placed.receivers) == 2
