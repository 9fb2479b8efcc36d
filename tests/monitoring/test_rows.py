"""Test which receivers share a row, their names, and that rows keep nothing alive."""

import functools
import gc
import sys
import weakref
from types import SimpleNamespace
from unittest import mock

import pytest
import wrapt
from django.core.signals import setting_changed

from altdispatch import monitoring, rows
from altdispatch.tasks import on_commit

from ..implementations import COUNTS_REFERENCES
from .helpers import Sender, plain, stats_of


def test_closures_share_a_row(signal):
    def make():
        def closure(**kwargs):
            pass

        return closure

    for _ in range(3):
        closure = make()
        signal.connect(closure)
        signal.send(Sender)
        signal.disconnect(closure)
    (stats,) = stats_of(signal).receivers
    assert stats.calls == 3
    assert stats.name == f"{__name__}.{make.__qualname__}.<locals>.closure"
    line = make.__code__.co_firstlineno + 1
    assert stats.place == f"{__file__}:{line}"


class Object:
    def __call__(self, **kwargs):
        pass

    def method(self, **kwargs):
        pass


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@wrapt.decorator
def wrapped_by_wrapt(function, instance, args, kwargs):
    return function(*args, **kwargs)


RECEIVERS = {
    "function": lambda: plain,
    "method": lambda: Object().method,
    "object": lambda: Object(),
    "class": lambda: SimpleNamespace,
    "partial": lambda: functools.partial(plain, more=1),
    "decorated": lambda: decorated(decorated(plain)),
    "wrapt": lambda: wrapped_by_wrapt(plain),
    "on_commit": lambda: on_commit(plain),
    "mock": lambda: mock.Mock(),
}


NAMES = {
    "method": f"{__name__}.Object.method",
    "object": f"{__name__}.Object.__call__",
    "class": "types.SimpleNamespace",
    "mock": "unittest.mock.CallableMixin.__call__",
}


if sys.implementation.name == "pypy":
    # It's written in Python there: to ask it for __wrapped__ would run its code.
    NAMES["wrapt"] = "wrapt.wrappers._FunctionWrapperBase.__call__"


@pytest.mark.parametrize("kind", RECEIVERS)
def test_names_of_receivers(signal, kind, monkeypatch):
    monkeypatch.setattr("django.db.transaction.on_commit", lambda *args, **kwargs: None)
    # The class of a mock is its own, and its row goes with it.
    receivers = [RECEIVERS[kind]() for _ in range(2)]
    for receiver in receivers:
        signal.connect(receiver, weak=False)
        for _ in range(2):
            signal.send(Sender)
        signal.disconnect(receiver)
    names = {stats.name for stats in stats_of(signal).receivers}
    assert names == {NAMES.get(kind, f"{plain.__module__}.plain")}
    assert sum(stats.calls for stats in stats_of(signal).receivers) == 4


def test_built_in_receivers_have_rows_of_their_own(signal):
    """Built-in methods share a row if they have the same class and name."""
    receivers = [print, len, [].append, [].append, [].extend, {}.update, dict.fromkeys]
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    for _ in range(2):
        signal.send_robust(Sender)
    stats = stats_of(signal).receivers
    assert {each.name: (each.calls, each.errors) for each in stats} == {
        "builtins.print": (2, 2),
        "builtins.len": (2, 2),
        "builtins.list.append": (4, 4),
        "builtins.list.extend": (2, 2),
        "builtins.dict.update": (2, 0),
        "builtins.dict.fromkeys": (2, 2),
    }
    assert len(stats) == 6


def test_objects_of_built_in_methods_do_not_notice(signal):
    class Untouchable(dict):
        def __getattribute__(self, name):
            raise AssertionError(name)

        def __eq__(self, other):
            raise AssertionError(other)

        __hash__ = None

    receiver = dict.update.__get__(Untouchable())
    signal.connect(receiver, weak=False)
    for _ in range(2):
        signal.send(Sender)
    (stats,) = stats_of(signal).receivers
    assert (stats.calls, stats.errors) == (2, 0)


def test_a_mock_does_not_notice(signal):
    receiver = mock.Mock()
    signal.connect(receiver, weak=False)
    receiver.reset_mock()
    signal.send(Sender)
    assert receiver.mock_calls == [mock.call(signal=signal, sender=Sender)]
    assert "__wrapped__" not in dir(receiver)


def test_names_of_signals(Signal):
    monitoring.snapshot()
    unnamed = Signal()
    unnamed.send(Sender)
    setting_changed.send(Sender, setting="X", value=1, enter=True)
    assert rows.name_signal(unnamed) == f"{Signal.__module__}.{Signal.__qualname__}"
    assert rows.name_signal(setting_changed) == "django.core.signals.setting_changed"


@pytest.mark.skipif(not COUNTS_REFERENCES, reason="needs reference counts")
def test_nothing_keeps_signals_and_receivers_alive(Signal):
    signal = Signal()

    def receiver(**kwargs):
        pass

    signal.connect(receiver)
    signal.send(Sender)
    references = [weakref.ref(receiver), weakref.ref(signal)]
    identity = id(signal)
    del receiver
    assert references[0]() is None
    del signal
    gc.collect()
    assert references[1]() is None
    assert identity not in rows.signals


def test_rows_of_code_that_is_gone_are_gone(signal):
    for number in range(3):
        namespace = {}
        exec(f"def receiver(**kwargs): {number}", namespace)
        signal.connect(namespace["receiver"])
        signal.send(Sender)
        namespace.clear()
        gc.collect()
    assert len(rows.find_signal(signal).receivers) <= 1


def test_rows_of_built_in_methods_do_not_accumulate(signal):
    for _ in range(3):
        cls = type("Class", (dict,), {})
        receivers = [cls().update, cls().update]
        for receiver in receivers:
            signal.connect(receiver)
        signal.send(Sender)
        del cls, receiver
        receivers.clear()
        gc.collect()
    assert len(rows.find_signal(signal).receivers) <= 1


def test_many_signals_and_receivers_are_told_apart(Signal):
    """More than compiled code has room for."""
    signals = [Signal() for _ in range(60)]
    receivers = []
    for number in range(60):
        namespace = {}
        exec(f"def receiver(**kwargs): {number}", namespace)
        receivers.append(namespace["receiver"])
    for number, signal in enumerate(signals):
        for receiver in receivers[number:]:
            signal.connect(receiver)
    for _ in range(3):
        for signal in signals:
            signal.send(Sender)
    for number, signal in enumerate(signals):
        stats = stats_of(signal)
        assert stats.sends == 3
        assert [each.calls for each in stats.receivers] == [3] * (60 - number)
