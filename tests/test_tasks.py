"""Connect tasks to signals, on stock Django and swapped, with real backends.

``tests/delivery`` tests tasks in processes that are killed.
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

import altdispatch.checks  # noqa: F401 - it registers the checks.
from altdispatch.listing import list_signals
from altdispatch.tasks import connect_task, disconnect_task, on_commit, task_receiver
from altdispatch.utils import muted

from .conftest import receivers_restored
from .system.shop.models import Book, Product, Tag

# The migrations of the other tests don't create its table.
with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "django_tasks_db"]):
    from django_tasks_db.models import DBTaskResult

    # Other tests use the same admin site without the app.
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


def get_task(backend="default", task=reindex):
    return task.using(backend=backend)


def stored_arguments(database="default"):
    """Return the arguments of the tasks in the database, oldest first."""
    rows = DBTaskResult.objects.using(database).order_by("enqueued_at")
    return [row.args_kwargs["kwargs"] for row in rows]


def enqueued_arguments(task):
    return [result.kwargs for result in task.get_backend().results]


class Router:
    """Write rows of tasks, or of the models in ``in_other``, to the other database."""

    in_other: tuple[type, ...] = (DBTaskResult,)

    def db_for_write(self, model, **hints):
        return "other" if model in self.in_other else None


@pytest.fixture(autouse=True)
def backends():
    with override_settings(TASKS=TASKS):
        yield


@pytest.fixture(autouse=True)
def restored_signals():
    """Disconnect what the test connects."""
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
    """Delete the rows of tests that commit."""
    yield
    for connection in connections.all():
        DBTaskResult.objects.using(connection.alias).all().delete()


def on_databases(test):
    mark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
    return pytest.mark.usefixtures("rows")(mark(test))


in_test_case = pytest.mark.django_db(databases=["default", "other"])


# When a task is enqueued.


@on_databases
@pytest.mark.parametrize("using", ["default", "other"])
def test_in_the_transaction(using):
    Router.in_other = (DBTaskResult, Tag) if using == "other" else ()
    with override_settings(DATABASE_ROUTERS=[Router()]):
        connect_task(post_save, get_task(), sender=Tag, payload=payload)
        with rolled_back(using):
            Tag.objects.using(using).create(name="rolled back")
            assert stored_arguments(using) == [{"name": "rolled back"}]
        assert stored_arguments(using) == []
        with transaction.atomic(using):
            Tag.objects.using(using).create(name="kept")
            with rolled_back(using):
                Tag.objects.using(using).create(name="in a savepoint")
        assert stored_arguments(using) == [{"name": "kept"}]


@on_databases
@pytest.mark.parametrize("using", ["default", "other"])
def test_on_commit(using):
    dummy = get_task("dummy")
    connect_task(post_save, dummy, sender=Tag, payload=payload, when="commit")
    with transaction.atomic(using, durable=True):
        tag = Tag.objects.using(using).create(name="kept")
        # The task gets the values from the time of the send.
        tag.name = "changed"
        with rolled_back(using):
            Tag.objects.using(using).create(name="in a savepoint")
        assert enqueued_arguments(dummy) == []
    with rolled_back(using):
        Tag.objects.using(using).create(name="rolled back")
    assert enqueued_arguments(dummy) == [{"name": "kept"}]
    Tag.objects.using(using).create(name="at once")
    assert enqueued_arguments(dummy)[1:] == [{"name": "at once"}]


@on_databases
def test_now():
    dummy = get_task("dummy")
    connect_task(post_save, dummy, sender=Tag, payload=payload, when="now")
    with rolled_back():
        Tag.objects.create(name="rolled back")
    assert enqueued_arguments(dummy) == [{"name": "rolled back"}]


@on_databases
def test_outside_a_transaction_it_is_stored_with_a_warning():
    connect_task(post_save, get_task(), sender=Tag, payload=payload)
    with pytest.warns(RuntimeWarning, match="reindex was queued outside") as warned:
        Tag.objects.create(name="alone")
    # The warning names the line that saves, not a line in Django.
    assert warned[0].filename == __file__
    with warnings.catch_warnings(), suppress(RuntimeWarning):
        warnings.simplefilter("error")
        Tag.objects.create(name="all the same")
    assert stored_arguments() == [{"name": "alone"}, {"name": "all the same"}]


@on_databases
def test_signals_outside_djangos_transaction():
    """save() sends its signals outside the transaction that it opens."""

    def payload(sender, signal, **kwargs):
        return {"signal": sent[signal]} if sender is Tag else None

    sent = {pre_save: "pre_save", pre_delete: "pre_delete", post_delete: "post_delete"}
    for signal in sent:
        connect_task(signal, get_task(), payload=payload)
    with pytest.warns(RuntimeWarning, match="If the process dies in between, one"):
        tag = Tag.objects.create(name="one")
    tag.delete()
    names = [row["signal"] for row in stored_arguments()]
    assert names == ["pre_save", "pre_delete", "post_delete"]


@on_databases
def test_autocommit_off():
    """Tasks join the transaction of a program that turned autocommit off."""
    connect_task(post_save, get_task(), sender=Tag, payload=payload)
    connect_task(post_delete, get_task(), sender=Tag, payload=payload, when="commit")
    transaction.set_autocommit(False)
    try:
        tag = Tag.objects.create(name="rolled back")
        assert stored_arguments() == [{"name": "rolled back"}]
        transaction.rollback()
        assert stored_arguments() == []
        with pytest.raises(transaction.TransactionManagementError):
            post_delete.send(Tag, instance=tag, using="default")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@in_test_case
def test_in_a_test_case(django_capture_on_commit_callbacks):
    dummy = get_task("dummy")
    connect_task(post_save, get_task(), sender=Tag, payload=payload)
    connect_task(post_delete, dummy, sender=Tag, payload=payload, when="commit")
    tag = Tag.objects.create(name="one")
    assert stored_arguments() == [{"name": "one"}]
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        tag.delete()
        assert enqueued_arguments(dummy) == []
    assert len(callbacks) == 1
    assert enqueued_arguments(dummy) == [{"name": "one"}]


@in_test_case
def test_m2m_changed():
    def added(action, pk_set, **kwargs):
        return {"added": sorted(pk_set)} if action == "post_add" else None

    connect_task(m2m_changed, get_task(), sender=Product.tags.through, payload=added)
    product, tag = Product.objects.create(name="p"), Tag.objects.create(name="t")
    product.tags.add(tag)
    product.tags.remove(tag)
    assert stored_arguments() == [{"added": [tag.pk]}]


def test_error_of_a_backend_is_raised():
    queue = get_task("dummy").using(queue_name="default")
    connect_task(placed, queue, payload=lambda **kwargs: {}, when="now")
    tasks = {**TASKS, "dummy": {**TASKS["dummy"], "QUEUES": ["another"]}}
    with (
        override_settings(TASKS=tasks),
        pytest.raises(Exception, match="Queue 'default' is not valid"),
    ):
        placed.send(None)


@in_test_case
def test_fixtures_enqueue_nothing_by_default():
    connect_task(post_save, get_task(), sender=Tag, payload=payload)
    call_command("loaddata", "shop", verbosity=0)
    assert Tag.objects.exists()
    assert stored_arguments() == []
    connect_task(post_save, get_task(task=announce), Tag, payload=payload, raw=True)
    call_command("loaddata", "shop", verbosity=0)
    assert len(stored_arguments()) == Tag.objects.count()


@in_test_case
def test_fixtures_and_m2m_changed():
    """Before Django 6.1, m2m_changed has no ``raw`` argument."""
    connect_task(
        m2m_changed,
        get_task(),
        sender=Product.tags.through,
        payload=lambda action, **kwargs: {} if action == "post_add" else None,
    )
    call_command("loaddata", "shop", verbosity=0)
    assert len(stored_arguments()) == (0 if django.VERSION >= (6, 1) else 2)


def test_payload_of_none_enqueues_nothing():
    dummy = get_task("dummy")
    connect_task(placed, dummy, payload=lambda **kwargs: None, when="now")
    assert placed.send(None)[0][1] is None
    assert enqueued_arguments(dummy) == []


def test_payload_gets_the_arguments_of_a_receiver():
    seen = []
    connect_task(
        placed, get_task("dummy"), payload=lambda **kw: seen.append(kw), when="now"
    )
    placed.connect(lambda **kw: seen.append(kw), weak=False)
    placed.send(Tag, number=1)
    assert seen == [{"signal": placed, "sender": Tag, "number": 1}] * 2


class Size(models.TextChoices):
    LARGE = "large"


class Level(models.IntegerChoices):
    HIGH = 3


@in_test_case
def test_payload_is_converted_to_plain_types():
    lines = [1, {"a": (2.5, None)}]
    given = {
        "lines": lines,
        "size": Size.LARGE,
        "level": Level.HIGH,
        "html": mark_safe("<p>"),
        "flag": True,
    }
    dummy = get_task("dummy")
    connect_task(placed, dummy, payload=lambda **kwargs: given, when="now")
    connect_task(
        placed, get_task("immediate"), payload=lambda **kwargs: given, when="now"
    )
    placed.send(None)
    (queued,) = enqueued_arguments(dummy)
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
def test_payload_that_is_not_json(given, message, when):
    dummy = get_task("dummy")
    connect_task(placed, dummy, payload=lambda **kwargs: given, when=when)
    with pytest.raises(TypeError, match=message) as caught:
        placed.send(None)
    assert "tests.test_tasks.reindex" in str(caught.value)
    assert enqueued_arguments(dummy) == []


# Invalid backends, databases and arguments.


def test_backend_that_stores_nothing():
    for backend in ("dummy", "immediate"):
        with pytest.raises(ImproperlyConfigured, match=r"reindex .* TASK_DATABASES"):
            connect_task(post_save, get_task(backend), sender=Tag, payload=payload)
    assert not post_save.has_listeners(Tag)


@override_settings(ALTDISPATCH={"TASK_DATABASES": {"dummy": "default"}})
@in_test_case
def test_backend_listed_in_task_databases():
    dummy = get_task("dummy")
    connect_task(post_save, dummy, sender=Tag, payload=payload)
    Tag.objects.create(name="one")
    assert enqueued_arguments(dummy) == [{"name": "one"}]
    with pytest.raises(
        ImproperlyConfigured, match="'default', and the data is in 'oth"
    ):
        Tag.objects.using("other").create(name="two")


@in_test_case
@pytest.mark.parametrize("in_other", [DBTaskResult, Tag])
def test_different_databases(in_other):
    Router.in_other = (in_other,)
    with override_settings(DATABASE_ROUTERS=[Router()]):
        for sender in (Tag, "shop.Tag"):
            with pytest.raises(ImproperlyConfigured, match="transaction covers both"):
                connect_task(post_save, get_task(), sender=sender, payload=payload)
        # It gets every model's signal, also that of the rows of tasks.
        connect_task(post_save, get_task(), payload=payload_of_tags)
        with pytest.raises(ImproperlyConfigured, match="transaction covers both"):
            Tag.objects.create(name="one")
        database = Router().db_for_write(DBTaskResult) or "default"
        Tag(name="two").save(using=database)
        assert stored_arguments(database) == [{"name": "two"}]


@in_test_case
def test_signal_without_a_database_uses_the_default_one():
    connect_task(placed, get_task(), payload=lambda **kwargs: {"a": 1})
    ((_, result),) = placed.send(None)
    assert result.kwargs == {"a": 1}
    assert stored_arguments() == [{"a": 1}]
    with pytest.raises(ImproperlyConfigured, match="the data is in 'other'"):
        placed.send(None, using="other")


def test_system_check():
    def messages():
        return [one for one in run_checks() if one.id == "altdispatch.E006"]

    connect_task(post_save, get_task(), sender=Tag, payload=payload)
    connect_task(post_save, get_task(), sender="shop.Never", payload=payload)
    connect_task(post_save, get_task("dummy"), sender=Book, payload=payload, when="now")
    assert messages() == []
    Router.in_other = (Tag,)
    with override_settings(DATABASE_ROUTERS=[Router()]):
        (message,) = messages()
        # Another connection's task gets a message of its own.
        connect_task(post_delete, get_task(), sender=Book, payload=payload)
        Router.in_other = (Tag, Book)
        assert len({one.msg for one in messages()}) == 2
    assert message.msg.startswith(
        "A task for django.db.models.signals.post_save from shop.Tag can't be queued: "
        "tests.test_tasks.reindex is connected"
    )
    assert "raises ImproperlyConfigured" in message.hint
    assert message.is_serious()
    # Django's own check would report the pending connection.
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
        connect_task(placed, task or get_task(), **{"payload": payload, **options})
    assert placed.receivers == []


@pytest.mark.parametrize("change", [connect_task, disconnect_task])
def test_invalid_signal_or_task(change):
    options = {"payload": payload} if change is connect_task else {}
    for wrong in ([placed], (placed,), None, "placed"):
        with pytest.raises(
            TypeError, match=r"not a signal. Only task_receiver\(\) takes"
        ):
            change(wrong, get_task(), **options)
    with pytest.raises(TypeError, match=r"is not a task\. Decorate the function"):
        change(placed, reindex.func, **options)


def test_backend_app_not_installed(monkeypatch):
    """Without its app, the backend's models can't be imported."""
    monkeypatch.delitem(sys.modules, "django_tasks_db.models")
    with pytest.raises(ImproperlyConfigured, match='needs "django_tasks_db" in INS'):
        connect_task(post_save, get_task(), sender=Tag, payload=payload)


# Connect and disconnect.


def test_connecting_twice_has_no_effect():
    dummy = get_task("dummy")
    options = {"payload": lambda **kwargs: {}, "when": "now"}
    for _ in range(2):
        connect_task(placed, dummy, **options)
        connect_task(placed, get_task("dummy", announce), **options)
        connect_task(placed, dummy, sender=Tag, **options)
        connect_task(placed, dummy, dispatch_uid="another", **options)
        connect_task(placed, get_task("immediate"), **options)
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
def test_connecting_again_with_other_options(sender):
    dummy = get_task("dummy")
    options = {"sender": sender, "payload": payload, "when": "commit"}
    connect_task(post_save, dummy, **options)
    connect_task(post_save, get_task("dummy"), **options)
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
    """Reloaded functions are recognised by name; lambdas and local functions aren't."""
    dummy = get_task("dummy")

    again = types.FunctionType(payload.__code__, globals())
    connect_task(placed, dummy, payload=payload, when="now")
    connect_task(placed, dummy, payload=again, when="now")
    assert len(placed.receivers) == 1

    def make_payload():
        return lambda **kwargs: {}

    connect_task(post_save, dummy, payload=make_payload(), when="now")
    with pytest.raises(ValueError, match="already connected"):
        connect_task(post_save, dummy, payload=make_payload(), when="now")


def test_senders_by_model_name():
    options = {"payload": payload, "when": "now"}
    connect_task(post_save, get_task("dummy"), sender="shop.Tag", **options)
    connect_task(post_save, get_task("dummy"), sender=Tag, **options)
    assert len(post_save._live_receivers(Tag)[0]) == 1
    assert not post_save.has_listeners(Book)
    assert disconnect_task(post_save, get_task("dummy"), sender="shop.Tag")
    assert not disconnect_task(post_save, get_task("dummy"), sender=Tag)


def test_senders_by_model_name_with_other_signals():
    """Plain signals compare the ids of senders, so the name must be resolved."""
    options = {"payload": lambda **kwargs: {}, "when": "now"}
    task_receiver(placed, sender="shop.Tag", **options)(get_task("dummy"))
    connect_task(placed, get_task("dummy"), sender="shop.tag", **options)
    assert (len(placed.send(Tag)), len(placed.send(Book))) == (1, 0)
    for change in (
        lambda sender: connect_task(
            placed, get_task("dummy"), sender=sender, **options
        ),
        lambda sender: disconnect_task(placed, get_task("dummy"), sender=sender),
    ):
        with pytest.raises(LookupError, match="Never"):
            change("shop.Never")
        with pytest.raises(ValueError, match="'Tag' is not a sender"):
            change("Tag")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(apps, "models_ready", False)
            with pytest.raises(AppRegistryNotReady, match=r"in the ready\(\)"):
                change("shop.Tag")
    assert disconnect_task(placed, get_task("dummy"), sender="shop.Tag")
    assert placed.receivers == []


def test_decorator():
    dummy = get_task("dummy")
    options = {"payload": lambda **kwargs: {}, "when": "now"}
    assert task_receiver(placed, **options)(dummy) is dummy
    assert task_receiver([placed, post_save], sender=Tag, **options)(dummy) is dummy
    assert len(placed.send(Tag)) == 2
    assert len(post_save.send(Tag, instance=None)) == 1


def test_connection_is_listed_with_the_task(capsys):
    connect_task(placed, get_task("dummy"), sender=Tag, payload=payload, when="commit")
    (found,) = [one for one in list_signals() if one.name == f"{__name__}.placed"]
    (connection,) = found.connections
    assert connection.receiver == f"{__name__}.reindex"
    assert connection.file == __file__
    assert connection.line == inspect.getsourcelines(reindex.func)[1]
    assert (connection.sender, connection.task) == ("shop.Tag", "commit")
    from altdispatch.management.commands.altdispatch import Command

    call_command(Command(), "signals", "--signal=placed")
    assert "strong, task (commit), uid" in capsys.readouterr().out


def test_receiver_has_the_name_of_the_task(caplog):
    connect_task(placed, get_task("dummy"), payload=lambda: None, when="now")
    connect_task(post_save, get_task(), sender="shop.Never", payload=payload)
    placed.send_robust(None)
    assert "Error calling reindex in Signal.send_robust()" in caplog.text
    messages = [one.msg for one in run_checks() if one.id == "signals.E001"]
    del apps._pending_operations["shop", "never"]
    assert "The function 'reindex' was connected to the" in messages[0]


def test_muting_the_task_or_its_function():
    async def apayload(**kwargs):
        return {}

    options = {"payload": lambda **kwargs: {}, "when": "now"}
    connect_task(placed, get_task("dummy"), **options)
    connect_task(placed, get_task("immediate"), payload=apayload, when="now")
    connect_task(placed, get_task("dummy", announce), **options)
    for muting in (get_task("dummy"), reindex, reindex.func):
        with muted(placed, receivers=[muting]):
            ((_, result),) = placed.send(None)
            assert result.task.func is announce.func
    assert len(placed.send(None)) == 3


# Asynchronous code.


@on_databases
def test_asend_with_an_asynchronous_payload():
    called = []

    async def apayload(number, **kwargs):
        return {"count": await Tag.objects.acount(), "number": number}

    def spy(backend):
        aenqueue = backend.aenqueue

        async def wrapper(*args, **kwargs):
            called.append("aenqueue")
            return await aenqueue(*args, **kwargs)

        return wrapper

    dummy = get_task("dummy")
    connect_task(placed, dummy, payload=apayload, when="now")
    connect_task(placed, get_task(), payload=apayload)

    async def asend():
        return await placed.asend(None, number=1)

    with pytest.MonkeyPatch.context() as patch:
        for backend in (dummy.get_backend(), get_task().get_backend()):
            patch.setattr(backend, "aenqueue", spy(backend))
        with transaction.atomic():
            Tag.objects.create(name="seen by the payload")
            # async_to_sync() runs synchronous code in this thread, inside the
            # transaction.
            responses = async_to_sync(asend)()
            placed.send(None, number=2)
        with rolled_back():
            async_to_sync(asend)()
    assert len(responses) == 2
    numbers = [{"count": 1, "number": 1}, {"count": 1, "number": 2}]
    assert stored_arguments() == numbers
    assert enqueued_arguments(dummy) == [*numbers, numbers[0]]
    assert called == ["aenqueue"] * 6


@on_databases
@pytest.mark.parametrize("is_async", [True, False])
def test_asend_and_commit(is_async):
    async def apayload(**kwargs):
        return {"a": 1}

    def payload(**kwargs):
        return {"a": 1}

    dummy = get_task("dummy")
    chosen = apayload if is_async else payload
    connect_task(placed, dummy, payload=chosen, when="commit")
    assert placed.receivers[0][-1] is is_async
    with transaction.atomic():
        async_to_sync(placed.asend)(None)
        assert enqueued_arguments(dummy) == []
    assert enqueued_arguments(dummy) == [{"a": 1}]
    with rolled_back():
        async_to_sync(placed.asend)(None)
    async_to_sync(placed.asend)(None)
    assert enqueued_arguments(dummy) == [{"a": 1}] * 2


def test_payload_marked_as_a_coroutine_function():
    """Django's own decorators mark the functions that they return."""

    async def apayload(**kwargs):
        return {"a": 1}

    dummy = get_task("dummy")
    marked = markcoroutinefunction(lambda **kwargs: apayload(**kwargs))
    connect_task(placed, dummy, payload=marked, when="now")
    async_to_sync(placed.asend)(None)
    assert enqueued_arguments(dummy) == [{"a": 1}]


def test_asend_and_fixtures():
    async def apayload(**kwargs):
        return {}

    dummy = get_task("dummy")
    for signal in (post_save, placed):
        connect_task(signal, dummy, payload=apayload, when="now")
    async_to_sync(post_save.asend)(Tag, instance=None, raw=True)
    assert enqueued_arguments(dummy) == []
    # For other signals, raw has no special meaning.
    async_to_sync(placed.asend)(None, raw=b"bytes")
    assert enqueued_arguments(dummy) == [{}]


@on_databases
def test_asend_outside_a_transaction_warns():
    async def apayload(**kwargs):
        return {"a": 1}

    connect_task(placed, get_task(), payload=apayload)
    with pytest.warns(RuntimeWarning, match="outside a transaction"):
        async_to_sync(placed.asend)(None)
    assert stored_arguments() == [{"a": 1}]


# Together with on_commit().


def test_on_commit_of_a_task():
    with pytest.raises(TypeError, match=r"connect_task\(\) is for tasks"):
        on_commit(announce)


def test_debug_accepts_what_is_connected(settings):
    settings.DEBUG = True
    connect_task(placed, get_task("dummy"), payload=payload, when="now")
    placed.connect(on_commit(announce.func))
    assert len(placed.receivers) == 2
