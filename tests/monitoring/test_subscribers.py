"""Test functions that are called after slow calls of receivers."""

import contextvars
import logging
import threading
import time
import traceback

import pytest

from altdispatch import monitoring, rows, together

from .helpers import (
    WAYS,
    Sender,
    counted,
    failing,
    failing_async,
    plain,
    send,
    slow,
    waiting,
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("receiver", [plain, waiting, failing, failing_async])
def test_subscriber_gets_the_call(signal, calls, way, receiver):
    signal.connect(receiver)
    before = time.perf_counter(), time.time_ns()
    outcome = send(way, signal)
    after = time.perf_counter(), time.time_ns()
    (call,) = calls
    assert (call.signal, call.sender, call.receiver) == (signal, Sender, receiver)
    assert before[0] <= call.start <= call.start + call.duration <= after[0]
    assert before[1] - 100_000 <= call.start_ns <= after[1]
    assert call.own == call.duration
    assert call.is_async == receiver.__name__.endswith(("waiting", "async"))
    if isinstance(outcome, list):
        outcome = outcome[0][1]
    assert call.error is (outcome if isinstance(outcome, Exception) else None)
    assert call.receiver_name == f"{receiver.__module__}.{receiver.__name__}"
    assert call.signal_name == rows.name_signal(signal)
    code = receiver.__code__
    assert call.place == f"{code.co_filename}:{code.co_firstlineno}"


def test_clocks_are_read_again_after_an_interruption(monkeypatch):
    """Otherwise, the call would seem to start earlier by as long as that took."""
    read = rows.Clock.tell
    interruptions = [0.05]

    def tell():
        now = read()
        if interruptions:
            time.sleep(interruptions.pop())
        return now

    monkeypatch.setattr(rows.Clock, "tell", staticmethod(tell))
    before = time.time_ns()
    assert rows.Clock.convert(rows.Clock.count()) > before - 20_000_000


def test_subscriber_gets_slow_calls_only(signal):
    calls = []
    signal.connect(plain)
    signal.connect(slow)
    with monitoring.subscribe(calls.append):
        signal.send(Sender)
    assert [call.receiver for call in calls] == [slow]


def test_unsubscribing(signal):
    signal.connect(plain)
    calls = []
    unsubscribe = monitoring.subscribe(calls.append, slower_than=0)
    signal.send(Sender)
    unsubscribe()
    unsubscribe()
    signal.send(Sender)
    assert len(calls) == 1


def test_subscriber_alone_turns_monitoring_on(signal):
    monitoring.disable()
    signal.connect(plain)
    calls = []
    with monitoring.subscribe(calls.append, slower_than=0):
        assert not monitoring.is_enabled()
        signal.send(Sender)
    signal.send(Sender)
    assert len(calls) == 1


def test_subscriber_that_unsubscribes_itself(signal):
    signal.connect(plain)
    calls = []

    def once(call):
        calls.append(call)
        unsubscribe()

    unsubscribe = monitoring.subscribe(once, slower_than=0)
    signal.send(Sender)
    signal.send(Sender)
    assert len(calls) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("receiver", [plain, failing, waiting, failing_async])
def test_error_of_a_subscriber_is_logged(signal, caplog, way, receiver):
    signal.connect(receiver)
    expected = repr(send(way, signal))
    caplog.clear()

    def fails(call):
        raise LookupError("of the subscriber")

    with monitoring.subscribe(fails, slower_than=0):
        assert repr(send(way, signal)) == expected
    (record,) = [each for each in caplog.records if each.name == "altdispatch"]
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is LookupError


@pytest.mark.parametrize("inner_way", WAYS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("receiver", [plain, waiting])
def test_what_a_subscriber_sends_is_not_watched(Signal, way, inner_way, receiver):
    signal = Signal()
    signal.connect(receiver)
    calls = []

    def sends(call):
        calls.append(call)
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(send, inner_way, signal)
        )
        thread.start()
        thread.join()
        if not way.startswith("a") and receiver is plain:
            send(inner_way, signal)

    with monitoring.subscribe(sends, slower_than=0):
        send(way, signal)
    assert len(calls) == 1
    assert counted(signal) == (1, 0, {receiver.__name__: (1, 0)})


def test_subscriber_is_called_in_the_context_of_the_receiver(signal, calls):
    variable = contextvars.ContextVar("variable")
    seen = []

    def receiver(**kwargs):
        variable.set(threading.get_ident())

    signal.connect(receiver)
    with monitoring.subscribe(lambda call: seen.append(variable.get()), slower_than=0):
        contextvars.copy_context().run(signal.send, Sender)
    assert seen == [threading.get_ident()]


def test_negative_limit_is_refused():
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="slower_than"):
            monitoring.subscribe(print, slower_than=wrong)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("effect", ["raise", "raise from", "clear"])
def test_subscribers_that_change_an_error(signal, is_async, effect):
    """They may raise it again, say to log it: nothing of that is seen."""
    signal.connect(failing_async if is_async else failing)

    def change(call):
        if effect == "clear":
            call.error.__traceback__ = None
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            if effect == "raise from":
                raise call.error from error
            raise call.error  # noqa: B904

    def describe_error():
        # As if it had not failed before: Django would run it, in other functions.
        together._left_to_django.clear()
        error = send("asend", signal)
        return [
            [entry.name for entry in traceback.extract_tb(error.__traceback__)],
            repr(error.__context__),
            repr(error.__cause__),
            error.__suppress_context__,
        ]

    without = describe_error()
    with monitoring.subscribe(change, slower_than=0):
        assert describe_error() == without


def test_a_limit_that_no_call_reaches(signal):
    """Numbers of nanoseconds that C can't have."""
    signal.connect(plain)
    for limit in (1e10, 1e300, float("inf")):
        with monitoring.subscribe(pytest.fail, slower_than=limit):
            signal.send(Sender)
    assert counted(signal) == (3, 0, {"plain": (3, 0)})
