"""Test ``on_commit()`` on stock Django and swapped."""

from __future__ import annotations

import gc
import inspect
from functools import wraps
from unittest.mock import Mock

import pytest
from asgiref.sync import (
    async_to_sync,
    iscoroutinefunction,
    markcoroutinefunction,
    sync_to_async,
)
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import Signal, receiver

from altdispatch.listing import list_signals
from altdispatch.tasks import on_commit
from altdispatch.utils import muted

from .conftest import receivers_restored
from .implementations import COUNTS_REFERENCES
from .system.shop.models import Tag

placed = Signal()

pytestmark = pytest.mark.usefixtures("stock_or_swapped")
on_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def restored_signals():
    """Disconnect what the test connects."""
    with receivers_restored(placed, post_save):
        yield


def collect_on_pypy():
    if not COUNTS_REFERENCES:
        gc.collect()


@on_databases
def test_on_commit_lives_as_long_as_its_receiver():
    def receive(**kwargs):
        pass

    gc.disable()
    try:
        placed.connect(on_commit(receive))
        placed.connect(on_commit(receive))
        placed.connect(on_commit(lambda **kwargs: None))
        assert len(placed.receivers) == 2
        collect_on_pypy()
        assert [found for found, _ in placed.send(None)] == [on_commit(receive)]
        del receive
        collect_on_pypy()
        assert not placed.has_listeners()
    finally:
        gc.enable()


def test_on_commit_is_equal_for_the_same_receiver():
    def receive(**kwargs):
        pass

    assert on_commit(receive) == on_commit(receive)
    assert on_commit(receive) != on_commit(receive, robust=True)

    # wraps() copies attributes.
    @wraps(receive)
    def other(**kwargs):
        pass

    assert on_commit(other) != on_commit(receive)
    assert on_commit(other).__self__ is other
    placed.connect(on_commit(receive))
    assert not placed.disconnect(on_commit(other))
    assert placed.disconnect(on_commit(receive))


@on_databases
def test_on_commit_of_a_mock():
    mock = Mock()
    placed.connect(on_commit(mock))
    placed.send(None, number=1)
    mock.assert_called_once_with(signal=placed, sender=None, number=1)
    placed.disconnect(on_commit(mock))
    assert placed.receivers == []


@on_databases
def test_on_commit_has_the_name_of_its_receiver(caplog):
    def receive(**kwargs):
        raise KeyError

    placed.connect(on_commit(receive), dispatch_uid=1)
    placed.connect(on_commit(receive), dispatch_uid=2)
    (found,) = [one for one in list_signals() if one.name == f"{__name__}.placed"]
    name = "test_on_commit_has_the_name_of_its_receiver.<locals>.receive"
    for connection in found.connections:
        assert connection.receiver == f"{__name__}.{name}"
        assert connection.line == inspect.getsourcelines(receive)[1]
    placed.send_robust(None)
    assert f"Error calling {name} in Signal.send_robust()" in caplog.text


@on_databases
def test_muting_on_commit():
    seen = []

    def receive(**kwargs):
        seen.append(kwargs)

    placed.connect(on_commit(receive))
    for receivers in ([receive], [on_commit(receive)]):
        with muted(placed, receivers=receivers):
            assert placed.send(None) == []
    with muted(placed, receivers=[on_commit(receive, robust=True), on_commit(print)]):
        placed.send(None)
    assert len(seen) == 1


def test_on_commit_without_keyword_arguments(settings):
    """With DEBUG, Django raises this error too."""
    settings.DEBUG = True
    with pytest.raises(ValueError, match="must accept keyword arguments"):
        on_commit(lambda sender: None)


class Holder:
    def __init__(self):
        self.seen = []

    def receive(self, **kwargs):
        self.seen.append(kwargs)


@on_databases
@pytest.mark.parametrize("using", ["default", "other"])
def test_on_commit_calls_with_the_same_arguments(using):
    holder, direct = Holder(), []
    post_save.connect(on_commit(holder.receive), sender=Tag, weak=False)
    post_save.connect(lambda **kwargs: direct.append(kwargs), sender=Tag, weak=False)
    with transaction.atomic(using):
        Tag.objects.using(using).create(name="kept")
        assert holder.seen == []
    assert holder.seen == direct
    assert direct[0]["using"] == using
    with transaction.atomic(using):
        Tag.objects.using(using).create(name="rolled back")
        transaction.set_rollback(True, using)
    assert len(holder.seen) == 1
    Tag.objects.using(using).create(name="at once")
    assert len(holder.seen) == 2


@on_databases
def test_on_commit_of_a_coroutine_function():
    names = []

    @receiver(post_save, sender=Tag)
    @on_commit
    async def receive(instance, **kwargs):
        names.append(await sync_to_async(str)(instance))

    assert not iscoroutinefunction(receive)
    with transaction.atomic():
        Tag.objects.create(name="kept")
        assert names == []
    assert names == ["kept"]

    async def create():
        await Tag.objects.acreate(name="from a loop")

    async_to_sync(create)()
    assert names == ["kept", "from a loop"]


@on_databases
def test_on_commit_of_a_function_marked_as_a_coroutine_function():
    seen = []

    async def receive(**kwargs):
        seen.append(kwargs["sender"])

    marked = markcoroutinefunction(lambda **kwargs: receive(**kwargs))
    placed.connect(on_commit(marked), weak=False)
    placed.send(Tag)
    assert seen == [Tag]


@on_databases
def test_on_commit_that_fails(caplog):
    def fail(**kwargs):
        raise ConnectionError("refused")

    placed.connect(on_commit(fail, robust=True))
    with transaction.atomic():
        placed.send(None)
    (record,) = caplog.records
    assert "refused" in record.getMessage()
    placed.connect(on_commit(fail))
    with pytest.raises(ConnectionError), transaction.atomic():
        placed.send(None)
