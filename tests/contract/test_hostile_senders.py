"""Senders that count accesses to them, or change the signal during an access."""

from __future__ import annotations

import types
import weakref
from unittest import mock

import pytest

from .hostile import CACHING, Receiver


class RaisingGetattr:
    accesses = 0

    def __getattr__(self, name):
        if name == "__func__":
            type(self).accesses += 1
            raise ZeroDivisionError(name)
        raise AttributeError(name)


class RaisingProperty:
    accesses = 0

    @property
    def __func__(self):
        type(self).accesses += 1
        raise ZeroDivisionError


class RaisingMetaclass(type):
    accesses = 0

    def __getattr__(cls, name):
        if name == "__func__":
            RaisingMetaclass.accesses += 1
            raise ZeroDivisionError(name)
        raise AttributeError(name)


class RaisingClass(metaclass=RaisingMetaclass):
    pass


class HasFunction:
    accesses = 0
    __func__ = len

    def __init__(self):
        self.__self__ = self


def describe_call(signal, how, sender):
    """Return the beginning of what a call returns, or its error."""
    try:
        return str(getattr(signal, how)(sender))[:10]
    except (AttributeError, ZeroDivisionError) as error:
        return repr(error)


@CACHING
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (RaisingGetattr, RaisingGetattr),
        (RaisingProperty, RaisingProperty),
        (RaisingMetaclass, lambda: RaisingClass),
        (HasFunction, HasFunction),
    ],
)
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_access_to_the_senders_func_attribute(
    assert_same, caching, kind, make, how, count
):
    def scenario(Signal):
        kind.accesses = 0
        signal = Signal(use_caching=caching)
        receivers = [lambda **kwargs: "called" for _ in range(count)]
        for receiver in receivers:
            signal.connect(receiver)
        sender = make()
        seen = []
        for _ in range(3):
            seen.append(describe_call(signal, how, sender))
            seen.append((kind.accesses, signal.lock.locked()))
        return seen

    assert_same(scenario)


@CACHING
@pytest.mark.parametrize("name", [None, "__getattr__", "__func__"])
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
def test_module_as_sender(assert_same, caching, name, how):
    def scenario(Signal):
        accesses = []
        sender = types.ModuleType("sender")
        if name is not None:
            setattr(sender, name, accesses.append)
        signal = Signal(use_caching=caching)
        signal.connect(Receiver(), weak=False)
        signal.connect(Receiver(), sender=sender, weak=False)
        seen = []
        for _ in range(3):
            seen.append(describe_call(signal, how, sender))
            seen.append(list(accesses))
        return seen

    assert_same(scenario)


@CACHING
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
@pytest.mark.parametrize("method", ["__hash__", "__eq__"])
@pytest.mark.parametrize(
    "effect", ["connect", "disconnect", "replace", "empty", "patch", "raise", "clear"]
)
def test_sender_that_changes_the_signal_during_a_lookup(
    assert_same, caching, how, method, effect
):
    """The change comes before the look-up of the receivers, or during it."""

    def scenario(Signal):
        class Changing:
            def __hash__(self):
                act("__hash__")
                return 1

            def __eq__(self, other):
                act("__eq__")
                return self is other

        def act(name):
            if armed and name == method:
                armed.clear()
                change()

        def change():
            if effect == "connect":
                signal.connect(last, sender=sender)
            elif effect == "disconnect":
                signal.disconnect(first)
            elif effect == "replace":
                signal.receivers = signal.receivers[:1]
            elif effect == "empty":
                signal.receivers = []
            elif effect == "patch":
                signal._live_receivers = lambda sender: ([last], [])
            elif effect == "raise":
                raise ZeroDivisionError(method)
            else:
                signal.sender_receivers_cache.clear()

        def first(**kwargs):
            return "first"

        def second(**kwargs):
            return "second"

        def last(**kwargs):
            return "last"

        armed = []
        sender = Changing()
        signal = Signal(use_caching=caching)
        signal.connect(first)
        signal.connect(second, sender=sender)
        seen = []
        for number in range(4):
            if number in (0, 2):
                armed.append(1)
            try:
                found = getattr(signal, how)(sender)
            except ZeroDivisionError as error:
                found = str(error)
            # Each run has its own receivers, so compare their responses.
            if isinstance(found, list):
                found = [response for _, response in found]
            seen.append((found, len(armed)))
        return seen

    assert_same(scenario)


class Reference(weakref.ref):
    def __call__(self, **kwargs):
        return super().__call__()


RECEIVERS = {
    "function": lambda: lambda **kwargs: "function",
    "method": lambda: Receiver().method,
    "mock": lambda: mock.Mock(return_value="mock"),
    "proxy": lambda: weakref.proxy(KEPT),
    "subclass of a reference": lambda: Reference(KEPT),
}
KEPT = Receiver()


@CACHING
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners", "lookup"])
@pytest.mark.parametrize("edited", [False, True], ids=["", "edited"])
@pytest.mark.parametrize("make", RECEIVERS.values(), ids=RECEIVERS)
def test_number_of_times_that_a_sender_is_hashed(
    assert_same, caching, how, make, edited
):
    def scenario(Signal):
        class Counting:
            def __hash__(self):
                calls.append("hash")
                return 1

            def __eq__(self, other):
                calls.append("eq")
                return self is other

        calls = []
        sender = Counting()
        signal = Signal(use_caching=caching)
        signal.connect(make(), weak=False)
        if edited:
            # Compiled code leaves such an entry to Python.
            signal.receivers[0] = list(signal.receivers[0])
        seen = []
        for number in range(6):
            if number == 3:
                signal.sender_receivers_cache.clear()
            if number == 5 and caching:
                signal.sender_receivers_cache[sender] = None
            if how == "lookup":
                found = [len(each) for each in signal._live_receivers(sender)]
            elif how == "has_listeners":
                found = signal.has_listeners(sender)
            else:
                found = len(getattr(signal, how)(sender))
            seen.append((found, calls.copy()))
            calls.clear()
        return seen

    assert_same(scenario)


@pytest.mark.parametrize("how", ["send", "has_listeners"])
def test_sender_that_loses_its_hash(assert_same, how):
    """Its key in the cache isn't found any more, on CPython: its hash is another."""

    def scenario(Signal):
        class Hashing:
            def __hash__(self):
                return 5

            def __eq__(self, other):
                return self is other

        signal = Signal(use_caching=True)
        signal.connect(KEPT)
        sender = Hashing()
        seen = []
        for _ in range(3):
            getattr(signal, how)(sender)
            seen.append(len(signal.sender_receivers_cache))
        sender.__class__ = Plain
        for _ in range(3):
            getattr(signal, how)(sender)
            seen.append(len(signal.sender_receivers_cache))
        return seen

    assert_same(scenario)


class Plain:
    pass
