from __future__ import annotations

import django.core.signals
import django.db.models.signals
import django.dispatch
import django.test.signals
import pytest
from django.core.signals import got_request_exception
from django.db.models.signals import post_save
from django.dispatch import Signal as imported_before
from django.dispatch.dispatcher import Signal as imported_elsewhere

import altdispatch


class Sender:
    pass


made_before = imported_before()
caching_made_before = imported_before(use_caching=True)


def receiver(**kwargs):
    return "answer"


@pytest.fixture(autouse=True)
def connected_before():
    signals = [made_before, caching_made_before, post_save, got_request_exception]
    for signal in signals:
        signal.connect(receiver, sender=Sender)
    yield
    for signal in signals:
        assert signal.disconnect(receiver, sender=Sender)


def test_class_keeps_its_identity(assert_same_swapped):
    assert assert_same_swapped(
        lambda: [
            imported_before is imported_elsewhere is django.dispatch.Signal,
            id(django.dispatch.Signal),
            repr(django.dispatch.Signal),
            django.dispatch.Signal.__mro__,
            id(django.db.models.signals.ModelSignal),
            issubclass(altdispatch.Signal, django.dispatch.Signal),
        ]
    )[0]


def test_signals_keep_their_identity(assert_same_swapped):
    def describe():
        return [
            (id(signal), type(signal), repr(signal), hash(signal), list(vars(signal)))
            for signal in (made_before, post_save, got_request_exception)
        ]

    assert len(assert_same_swapped(describe)) == 3


def test_receivers_connected_before(assert_same_swapped):
    def send():
        signals = [made_before, caching_made_before, post_save, got_request_exception]
        seen = []
        for signal in signals:
            seen += [signal.send(Sender), signal.send(Sender), signal.send(int)]
            seen.append(signal.has_listeners(Sender))
            seen.append(len(signal.receivers))
        return seen

    assert assert_same_swapped(send)[0] == [(receiver, "answer")]


def test_list_referenced_before_the_swap(assert_same_swapped):
    """The signal sees edits of the list after the swap."""
    signal = imported_before()
    receivers = signal.receivers

    def edit():
        signal.connect(receiver)
        seen = [signal.receivers is receivers, len(receivers), len(signal.send(Sender))]
        receivers.clear()
        return [*seen, signal.send(Sender), signal.receivers is receivers]

    assert assert_same_swapped(edit) == [True, 1, 1, [], True]


@pytest.mark.usefixtures("implementation")
def test_names_imported_before_are_swapped():
    def dispatchers():
        return {
            signal.send.__func__.__code__.co_filename
            for signal in (
                made_before,
                post_save,
                got_request_exception,
                imported_before(),
            )
        }

    stock = dispatchers()
    altdispatch.install()
    swapped = dispatchers()
    altdispatch.uninstall()
    assert len(stock) == len(swapped) == 1
    assert stock != swapped
    assert dispatchers() == stock
