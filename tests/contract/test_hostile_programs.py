"""Programs that change a signal while the dispatcher uses it.

Each test reproduces a crash, a deadlock or a wrong result of an earlier version.
``tests/test_hostile.py`` generates such programs.
"""

from __future__ import annotations

import threading
import weakref
from unittest import mock

import pytest

import altdispatch

from .hostile import CACHING, Receiver, Sender, needs_counts, responses


def in_time(scenario):
    """Return the result of a scenario; fail if it deadlocks."""

    def run(*args):
        def work():
            results.append(scenario(*args))

        results = []
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), "deadlock"
        return results[0]

    return run


# Finalizers that use the signal.


@needs_counts
@CACHING
@pytest.mark.parametrize("count", [0, 100], ids=["short", "long"])
@pytest.mark.parametrize("searched", [0, 20], ids=["scanned", "indexed"])
def test_finalizer_run_by_disconnect(assert_same, caching, count, searched):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        others = [lambda **kwargs: "other" for _ in range(count)]
        for other in others:
            signal.connect(other, sender=Signal)
        seen = []

        class Listener:
            def __init__(self):
                signal.connect(self.on, weak=False, dispatch_uid="u")

            def on(self, **kwargs):
                return "listener"

            def __del__(self):
                seen.append(signal.has_listeners(int))
                seen.append(signal.disconnect(dispatch_uid="u"))

        Listener()
        for _ in range(searched):
            signal.disconnect(dispatch_uid="unknown")
        seen.append(responses(signal))
        seen.append(signal.disconnect(dispatch_uid="u"))
        return seen

    assert assert_same(in_time(scenario)) == [["listener"], False, False, True]


@needs_counts
@CACHING
def test_finalizer_run_by_an_edit(assert_same, caching):
    """The list has an index, which doesn't see an edit by list.pop()."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        others = [lambda **kwargs: "other" for _ in range(100)]
        seen = []

        class Listener:
            def __call__(self, **kwargs):
                return "listener"

            def __del__(self):
                seen.append(signal.has_listeners(int))

        signal.connect(Listener(), weak=False)
        for other in others:
            signal.connect(other, sender=Signal)
        signal.send(Sender)
        signal.sender_receivers_cache.clear()
        list.pop(signal.receivers, 0)
        seen.append("removed")
        signal.connect(print)
        return [*seen, len(signal.receivers)]

    assert assert_same(in_time(scenario)) == [False, "removed", 101]


# Receivers that imitate weak references, and subclasses of references.


class CountingRef(weakref.ref):
    calls = 0

    def __call__(self):
        type(self).calls += 1
        return super().__call__()


class CountingMethod(weakref.WeakMethod):
    calls = 0

    def __call__(self):
        type(self).calls += 1
        return super().__call__()


class FakeReference:
    __class__ = weakref.ref

    def __call__(self, **kwargs):
        return (lambda **kwargs: "referent") if not kwargs else "called"


def mock_receiver(kept):
    return mock.Mock(return_value="mock", __qualname__="mock")


def mock_reference(kept):
    return mock.Mock(spec=weakref.ref, return_value=lambda **kwargs: "referent")


def wrapped(kept):
    wrapt = pytest.importorskip("wrapt")
    return wrapt.ObjectProxy(kept)


def wrapped_reference(kept):
    wrapt = pytest.importorskip("wrapt")
    return wrapt.ObjectProxy(weakref.ref(kept))


class AnyAttribute:
    """An object that has every attribute."""

    def __init__(self, kept):
        pass

    def __getattr__(self, name):
        return name

    def __call__(self, **kwargs):
        return "answer"


KINDS = [
    AnyAttribute,
    weakref.proxy,
    weakref.ref,
    CountingRef,
    lambda kept: CountingMethod(kept.method),
    lambda kept: weakref.WeakMethod(kept.method),
    lambda kept: FakeReference(),
    mock_receiver,
    mock_reference,
    wrapped,
    wrapped_reference,
    lambda kept: type(kept),
]


@CACHING
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["send", "send_robust"])
def test_strong_receiver_of_any_type(assert_same, caching, kind, how):
    def scenario(Signal):
        CountingRef.calls = CountingMethod.calls = 0
        kept = Receiver()
        signal = Signal(use_caching=caching)
        signal.connect(kind(kept), sender=Sender, weak=False)
        seen = []
        for _ in range(3):
            try:
                seen.append([str(response) for response in responses(signal, how=how)])
            except TypeError as error:
                seen.append(str(error))
            seen.append(signal.has_listeners(Sender))
            seen.append(len(signal._live_receivers(Sender)[0]))
        return seen, CountingRef.calls, CountingMethod.calls

    assert_same(scenario)


# Functions whose code or defaults a program assigns.


@pytest.mark.parametrize("name", ["send", "send_robust", "has_listeners"])
def test_assigned_code(assert_same_swapped, name):
    import django.dispatch

    def other(self, sender=None, **named):
        return "other code"

    def scenario():
        signal = django.dispatch.Signal()
        signal.connect(Receiver(), weak=False)
        method = getattr(django.dispatch.Signal, name)
        code, defaults = method.__code__, method.__defaults__
        seen = [bool(getattr(signal, name)(Sender))]
        method.__code__ = other.__code__
        try:
            seen.append(getattr(signal, name)(Sender))
        finally:
            method.__code__, method.__defaults__ = code, defaults
        return [*seen, bool(getattr(signal, name)(Sender))]

    assert assert_same_swapped(scenario) == [True, "other code", True]


def test_assigned_defaults(assert_same_swapped):
    import django.dispatch

    def scenario():
        signal = django.dispatch.Signal()
        signal.connect(Receiver(), sender=Sender, weak=False)
        method = django.dispatch.Signal.has_listeners
        seen = [signal.has_listeners()]
        method.__defaults__ = (Sender,)
        try:
            seen.append(signal.has_listeners())
        finally:
            method.__defaults__ = (None,)
        return seen

    assert assert_same_swapped(scenario) == [False, True]


@pytest.mark.skipif(
    altdispatch.implementations.in_use.name != "c", reason="tests the extension"
)
def test_compiling_twice(run_python):
    output = run_python(
        """
        import altdispatch
        from altdispatch import _speedups, dispatcher

        for name in ("send", "send_robust", "has_listeners", "_live_receivers"):
            function = getattr(dispatcher.Signal, name)
            for _ in range(3):
                method = _speedups.compile(function)
                setattr(dispatcher.Signal, name, method)
        signal = dispatcher.Signal()
        signal.connect(lambda **kwargs: "answer", weak=False)
        print(signal.send(1.5)[0][1], signal.send(object)[0][1])
        print(signal.send_robust(1.5)[0][1], signal.has_listeners(1.5))
        """
    )
    assert output == "answer answer\nanswer True\n"
