"""Test every known difference that a program can observe.

Each test first shows what stock Django does. docs/explanation/differences.rst gives the
reasons and names the tests.
"""

import asyncio
import gc
import inspect
import logging
import signal as os_signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

import django.dispatch.dispatcher
import pytest
from asgiref.sync import ThreadSensitiveContext, markcoroutinefunction
from django.core.signals import request_started
from django.dispatch import Signal

import altdispatch
from altdispatch import monitoring
from altdispatch.receivers import Receivers
from altdispatch.releases import RELEASE
from altdispatch.together import CAN_START_EARLY

from .implementations import COUNTS_REFERENCES

needs_counts = pytest.mark.skipif(
    not COUNTS_REFERENCES, reason="PyPy can't tell whether the list is shared"
)
STOCK_FILE = django.dispatch.dispatcher.__file__
OUR_FILE = altdispatch.dispatcher.__file__

Outcomes = tuple[Any, Any]


@pytest.fixture
def outcomes(implementation: str) -> Callable[[Callable[[], Any]], Outcomes]:
    """Run a scenario on stock Django and swapped, and return both results."""

    def run_both(scenario: Callable[[], Any]) -> Outcomes:
        stock = scenario()
        assert altdispatch.install()
        try:
            return stock, scenario()
        finally:
            altdispatch.uninstall()

    return run_both


class Sender:
    pass


def receive(**kwargs):
    return "received"


class Holder:
    def receive(self, **kwargs):
        return "received"


def fail(**kwargs):
    raise ValueError("no")


def frames_below(function):
    """Return the file and function of each frame between here and ``function``."""
    frame = sys._getframe(1)
    frames = []
    while frame.f_code is not function.__code__:
        frames.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    return frames


# Memory


@pytest.mark.skipif(RELEASE >= (6, 1), reason="Django 6.1 leaves none either")
def test_connect_leaves_no_finalizer(outcomes):
    def scenario():
        before = set(weakref.finalize._registry)
        signal, dropped = Signal(), Signal()
        for one in (signal, dropped):
            one.connect(receive)
            one.connect(holder.receive)
        callback = signal.receivers[0][1].__callback__
        assert signal.disconnect(receive)
        assert signal.disconnect(holder.receive)
        one, dropped = None, weakref.ref(dropped)
        gc.collect()
        left = [each for each in weakref.finalize._registry if each not in before]
        is_kept = dropped() is not None
        for each in left:
            each.detach()
        return len(left), is_kept, callback is not None

    holder = Holder()
    assert outcomes(scenario) == ((4, True, False), (0, False, True))


def test_an_id_of_a_dead_receiver_is_used_again(outcomes):
    def scenario():
        signal = Signal()
        signal.connect(receive)
        dead = weakref.ref(Holder())
        gc.collect()  # PyPy doesn't count references.
        assert dead() is None
        # As it is until PyPy calls the callback of the reference.
        signal.receivers[0] = (signal.receivers[0][0], dead, *signal.receivers[0][2:])
        signal.connect(receive)
        return signal.has_listeners()

    assert outcomes(scenario) == (False, not COUNTS_REFERENCES)


# Types


def test_a_receivers_property_is_read_more_often(outcomes):
    def scenario():
        class Counting(Signal):
            reads = 0

            @property
            def receivers(self):
                type(self).reads += 1
                return self.kept

            @receivers.setter
            def receivers(self, value):
                self.kept = value

        signal = Counting()
        signal.connect(receive)
        signal.send(Sender)
        return Counting.reads

    stock, ours = outcomes(scenario)
    assert stock < ours < 2 * stock


def connect_many(signal, receiver=None):
    """Connect enough receivers for the signal to build an index."""
    senders = [type(f"Sender{number}", (), {}) for number in range(200)]
    for sender in senders:
        signal.connect(receiver or receive, sender=sender)
    return senders


@needs_counts
def test_many_receivers_are_a_subclass_of_list(outcomes):
    def scenario():
        few, many = Signal(), Signal()
        few.connect(receive)
        senders = connect_many(many)
        return type(few.receivers), type(many.receivers), len(senders)

    assert outcomes(scenario) == ((list, list, 200), (list, Receivers, 200))
    assert issubclass(Receivers, list)


@needs_counts
def test_a_long_list_is_exchanged(outcomes):
    def scenario():
        signal = Signal()
        before = id(signal.receivers)
        senders = connect_many(signal)
        return id(signal.receivers) != before, len(senders)

    assert outcomes(scenario) == ((False, 200), (True, 200))


@needs_counts
def test_a_list_that_is_held_keeps_its_type_after_uninstall(swapped):
    signal = Signal()
    connect_many(signal)
    receivers = signal.receivers
    assert altdispatch.uninstall()
    assert signal.receivers is receivers
    assert type(receivers) is Receivers


# Edits the list cannot see


@needs_counts
def test_an_edit_by_an_unbound_list_method_is_not_noticed(outcomes):
    def scenario():
        signal = Signal(use_caching=True)
        senders = connect_many(signal) + connect_many(signal) + connect_many(signal)
        other = Signal()
        other.connect(fail, sender=Sender)
        list.__setitem__(signal.receivers, 0, other.receivers[0])
        seen = [receiver for receiver, _ in signal.send_robust(Sender)]
        # An edit that changes the length is noticed.
        list.extend(signal.receivers, other.receivers)
        signal.sender_receivers_cache.clear()
        noticed = [receiver for receiver, _ in signal.send_robust(Sender)]
        return seen, noticed, len(senders)

    assert outcomes(scenario) == (
        ([fail], [fail, fail], 600),
        ([], [fail, fail], 600),
    )


@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="heapq is written in Python"
)
def test_entries_that_c_code_has_moved_are_found(outcomes):
    def scenario():
        signal = Signal()
        senders = connect_many(signal) + connect_many(signal) + connect_many(signal)
        for uid in "ab":
            signal.connect(fail, sender=Sender, dispatch_uid=uid)
        # heapq and other C code call list's methods this way.
        list.reverse(signal.receivers)
        seen = [receiver for receiver, _ in signal.send_robust(Sender)]
        return seen, len(senders)

    assert outcomes(scenario) == (([fail, fail], 600), ([fail, fail], 600))


def test_a_new_list_is_always_noticed(outcomes):
    """Assigning a new list is the workaround after such an edit."""

    def scenario():
        signal = Signal()
        senders = connect_many(signal)
        list.clear(signal.receivers)
        signal.receivers = list(signal.receivers)
        return signal.send(senders[0])

    assert outcomes(scenario) == ([], [])


# Compiled methods leave no stack frame


def test_a_compiled_send_may_have_no_frame(outcomes, implementation):
    def scenario():
        def receiver(**kwargs):
            return [name for _, name in frames_below(scenario)]

        signal = Signal(use_caching=True)
        signal.connect(receiver)
        [(_, names)] = signal.send(Sender)
        return names[1:]

    assert outcomes(scenario) == (["send"], [] if implementation == "c" else ["send"])


def test_responses_before_an_error_are_freed(outcomes, implementation):
    def scenario():
        class Response:
            def __del__(self):
                notes.append("freed")

        notes = []
        signal = Signal()
        signal.connect(lambda **kwargs: Response(), weak=False)
        signal.connect(fail)
        try:
            signal.send(Sender)
        except ValueError:
            notes.append("handled")
        gc.collect()
        return notes

    stock, ours = outcomes(scenario)
    assert stock == ["handled", "freed"]
    assert ours == (["freed", "handled"] if implementation == "c" else stock)


def test_the_type_of_a_compiled_method(outcomes, implementation):
    def scenario():
        return [
            (type(vars(Signal)[name]) is FunctionType, inspect.isfunction(method))
            for name, method in vars(Signal).items()
            if callable(method)
        ]

    stock, swapped = outcomes(scenario)
    assert set(stock) == {(True, True)}
    differs = implementation == "c" and sys.version_info < (3, 12)
    assert swapped.count((False, True)) == (4 if differs else 0)
    assert swapped.count((True, True)) == len(stock) - (4 if differs else 0)


# Where the code is


def test_frames_are_of_another_file(outcomes, implementation):
    def scenario():
        def receiver(**kwargs):
            return frames_below(scenario)

        signal = Signal()
        signal.connect(receiver)
        [(_, frames)] = signal.send(Sender)
        return frames[1:]

    ours = [] if implementation == "c" else [(OUR_FILE, "send")]
    assert outcomes(scenario) == ([(STOCK_FILE, "send")], ours)


def test_inner_frames_are_others(outcomes):
    def scenario():
        async def receiver(**kwargs):
            return [
                name
                for file, name in frames_below(scenario)
                if Path(file).parent in dispatchers
            ]

        signal = Signal()
        signal.connect(receiver)
        [(_, names)] = asyncio.run(signal.asend_robust(Sender))
        return names

    dispatchers = {Path(STOCK_FILE).parent, Path(OUR_FILE).parent}
    stock, swapped = outcomes(scenario)
    assert stock[0] == swapped[0] == "asend_and_wrap_exception"
    assert (stock != swapped) == CAN_START_EARLY


def test_errors_of_a_send_itself_have_fewer_frames(outcomes):
    def scenario():
        signal = Signal(use_caching=True)
        signal.connect(receive)
        with pytest.raises(TypeError) as caught:
            signal.send(["can't be referenced weakly"])
        return [frame.name for frame in traceback.extract_tb(caught.tb)][1:]

    assert outcomes(scenario) == (["send", "get"], ["send"])


def test_a_warning_about_the_caller_names_another_file(outcomes, implementation):
    def scenario():
        def receiver(**kwargs):
            warnings.warn("Don't send this.", stacklevel=2)

        signal = Signal()
        signal.connect(receiver)
        with pytest.warns(UserWarning, match="send this") as caught:
            signal.send(Sender)
        return caught[0].filename

    ours = __file__ if implementation == "c" else OUR_FILE
    assert outcomes(scenario) == (STOCK_FILE, ours)


def test_log_records_name_another_file(outcomes, caplog):
    def scenario():
        signal = Signal()
        signal.connect(fail)
        caplog.clear()
        with caplog.at_level(logging.ERROR, "django.dispatch"):
            signal.send_robust(Sender)
        [record] = caplog.records
        return record.pathname

    assert outcomes(scenario) == (STOCK_FILE, OUR_FILE)


def test_the_source_of_a_method_is_in_another_file(outcomes):
    def scenario():
        return inspect.getsourcefile(Signal.send)

    assert outcomes(scenario) == (STOCK_FILE, OUR_FILE)


# What runs in between


def test_a_profiler_sees_other_calls(outcomes, implementation):
    def scenario():
        def profile(frame, event, argument):
            if event == "call":
                called.append(frame.f_code.co_name)

        called = []
        signal = Signal(use_caching=True)
        signal.connect(receive)
        signal.send(Sender)
        previous = sys.getprofile()
        sys.setprofile(profile)
        try:
            signal.send(Sender)
        finally:
            sys.setprofile(previous)
        return called[: called.index("receive")]

    stock, swapped = outcomes(scenario)
    assert stock == ["send", "get", "_live_receivers", "get"]
    assert swapped == {"c": [], "python": ["send", "resolve"]}[implementation]


# When asynchronous receivers start


@pytest.mark.skipif(not CAN_START_EARLY, reason="the event loop starts receivers")
def test_asynchronous_receivers_start_at_once(outcomes):
    def scenario():
        notes = []

        async def receiver(**kwargs):
            notes.append("receiver")

        async def other():
            notes.append("another task")

        async def main():
            task = asyncio.create_task(other())
            await signal.asend(Sender)
            notes.append("sender")
            await task

        signal = Signal()
        signal.connect(receiver)
        asyncio.run(main())
        return notes

    assert outcomes(scenario) == (
        ["another task", "receiver", "sender"],
        ["receiver", "sender", "another task"],
    )


@pytest.mark.skipif(not CAN_START_EARLY, reason="the event loop starts receivers")
def test_the_next_sends_to_a_receiver_that_waited(outcomes):
    def scenario():
        starts = []

        async def waits(**kwargs):
            starts.append(len(turns))
            await asyncio.sleep(0)

        async def main():
            for _ in range(53):
                turns.clear()
                asyncio.get_running_loop().call_soon(turns.append, None)
                await signal.asend(Sender)

        turns = []
        signal = Signal()
        signal.connect(waits)
        asyncio.run(main())
        return starts

    assert outcomes(scenario) == ([1] * 53, [0] + [1] * 50 + [0] + [1])


@pytest.mark.skipif(not CAN_START_EARLY, reason="the event loop starts receivers")
def test_a_receiver_that_takes_back_a_cancellation(outcomes):
    def scenario():
        async def cancels(sender, **kwargs):
            sender.cancel()
            sender.uncancel()
            return "answer"

        async def main():
            try:
                return await signal.asend(asyncio.current_task())
            except asyncio.CancelledError as error:
                return type(error)

        signal = Signal()
        signal.connect(cancels, weak=False)
        return asyncio.run(main())

    stock, ours = outcomes(scenario)
    assert stock is asyncio.CancelledError
    # Up to Python 3.12, uncancel() doesn't take back the pending cancellation.
    if sys.version_info < (3, 13):
        assert ours is asyncio.CancelledError
    else:
        assert [answer for _, answer in ours] == ["answer"]


@pytest.mark.skipif(not CAN_START_EARLY, reason="the event loop starts receivers")
def test_a_first_step_runs_on_the_stack_of_its_sender(outcomes):
    def scenario():
        def go_down(levels):
            return levels and go_down(levels - 1)

        async def receiver(**kwargs):
            go_down(sys.getrecursionlimit() * 3 // 10)

        async def through(levels):
            if levels:
                return await through(levels - 1)
            [(_, answer)] = await signal.asend_robust(Sender)
            return type(answer)

        signal = Signal()
        signal.connect(receiver)
        return asyncio.run(through(sys.getrecursionlimit() * 8 // 10))

    logging.disable()
    try:
        assert outcomes(scenario) == (type(None), RecursionError)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.skipif(not CAN_START_EARLY, reason="the event loop starts receivers")
def test_tasks_look_different(outcomes, implementation):
    def scenario():
        seen = []

        async def receiver(**kwargs):
            coroutine = asyncio.current_task().get_coro()
            seen.append((len(asyncio.all_tasks()), inspect.iscoroutine(coroutine)))
            seen.append(coroutine.__qualname__)
            seen.append("<Future pending" in repr(sender[0]))

        async def waits(**kwargs):
            await asyncio.sleep(0)

        async def looks(**kwargs):
            await asyncio.sleep(0)
            seen.append("wait_for=<Future pending" in repr(sender[0]))

        async def main():
            sender.append(asyncio.current_task())
            await signal.asend(Sender)

        sender = []
        signal = Signal()
        for each in (receiver, waits, looks):
            signal.connect(each)
        asyncio.run(main())
        return seen

    name = "_run_parallel.<locals>.run"
    is_coroutine = implementation == "python"
    assert outcomes(scenario) == (
        [(4, True), name, True, True],
        [(2, is_coroutine), name, False, False],
    )


@pytest.mark.skipif(not CAN_START_EARLY, reason="the event loop starts receivers")
def test_a_receiver_that_raises_stop_iteration(outcomes):
    def scenario():
        @markcoroutinefunction
        def receiver(**kwargs):
            raise StopIteration

        signal = Signal()
        signal.connect(receiver)
        with pytest.raises(RuntimeError) as raised:
            asyncio.run(signal.asend(Sender))
        return str(raised.value), type(raised.value.__cause__)

    assert outcomes(scenario) == (
        ("generator raised StopIteration", StopIteration),
        ("coroutine raised StopIteration", StopIteration),
    )


@pytest.mark.skipif(not CAN_START_EARLY, reason="the event loop starts receivers")
def test_a_receiver_that_cancels_its_sender(outcomes):
    def scenario():
        notes = []

        def waits(name):
            async def receiver(**kwargs):
                try:
                    await asyncio.sleep(0)
                    notes.append(f"second step of {name}")
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    notes.append(f"{name} is cancelled")
                    raise

            return receiver

        async def cancels(sender, **kwargs):
            sender.cancel()

        async def main():
            with pytest.raises(asyncio.CancelledError):
                await signal.asend(asyncio.current_task())

        signal = Signal()
        receivers = [waits("first"), cancels, waits("last")]
        for receiver in receivers:
            signal.connect(receiver)
        asyncio.run(main())
        return notes

    assert outcomes(scenario) == (
        ["second step of first", "last is cancelled", "first is cancelled"],
        ["first is cancelled", "last is cancelled"],
    )


@pytest.mark.skipif(not CAN_START_EARLY, reason="the event loop starts receivers")
@pytest.mark.parametrize("what", ["task", "callback"])
def test_what_a_receiver_creates_cancels_its_sender(outcomes, what):
    def scenario():
        steps, tasks = [], []

        async def cancel(sender):
            sender.cancel()

        async def creates(sender, **kwargs):
            if what == "task":
                tasks.append(asyncio.create_task(cancel(sender)))
            else:
                asyncio.get_running_loop().call_soon(sender.cancel)

        async def waits(**kwargs):
            await asyncio.sleep(0)
            steps.append("second")
            await asyncio.sleep(1)

        async def main():
            with pytest.raises(asyncio.CancelledError):
                await signal.asend(asyncio.current_task())

        signal = Signal()
        for receiver in creates, waits:
            signal.connect(receiver)
        asyncio.run(main())
        return steps

    assert outcomes(scenario) == (["second"], [])


def test_an_asgi_request_starts_its_thread_later(outcomes):
    def scenario():
        async def main():
            async with ThreadSensitiveContext():
                before = threading.enumerate()
                await request_started.asend(Sender, scope={})
                return len({*threading.enumerate()} - {*before})

        return asyncio.run(main())

    assert outcomes(scenario) == (1, 0)


# Names in Django's module


def test_some_names_of_the_module_can_not_be_replaced(outcomes):
    def scenario():
        signal = Signal()
        signal.connect(receive)
        with mock.patch("django.dispatch.dispatcher.NONE_ID", "nobody's"):
            return [response for _, response in signal.send(Sender)]

    assert outcomes(scenario) == ([], ["received"])


def test_patched_methods_of_weak_references(outcomes):
    def scenario():
        signal = Signal(use_caching=True)
        signal.connect(receive)
        signal.send(Sender)
        get = weakref.WeakKeyDictionary.get
        with mock.patch.object(weakref.WeakKeyDictionary, "get", autospec=True) as got:
            got.side_effect = get
            signal.send(Sender)
        return got.call_count

    assert outcomes(scenario) == (2, 0)


# While monitoring is on


def test_coroutines_are_wrapped_while_monitoring(outcomes):
    async def receiver(**kwargs):
        return sys._getframe(1).f_code.co_name

    def scenario():
        signal = Signal()
        signal.connect(receiver)
        with monitoring.subscribe(id):
            ((_, name),) = asyncio.run(signal.asend(Sender))
        return name

    stock, swapped = outcomes(scenario)
    # The frame is the task's; on PyPy, tasks are written in Python.
    assert stock in ("run", "_run", "__step")
    assert swapped == "_watch"


@pytest.mark.skipif(
    not COUNTS_REFERENCES, reason="PyPy warns later, during another test"
)
def test_receivers_that_can_not_start_warn_twice_while_monitoring(outcomes):
    async def receiver(**kwargs):
        pass

    def refuse(loop, coroutine, **kwargs):
        raise ValueError("no task")

    async def send():
        signal, loop = Signal(), asyncio.get_running_loop()
        signal.connect(receiver)
        loop.set_task_factory(refuse)
        try:
            with pytest.raises(ValueError, match="no task"):
                await signal.asend(Sender)
        finally:
            loop.set_task_factory(None)

    def scenario():
        with monitoring.subscribe(id), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(send())
            gc.collect()
        messages = [str(warning.message) for warning in caught]
        return sum("receiver' was never awaited" in message for message in messages)

    assert outcomes(scenario) == (1, 2 if RELEASE >= (6, 1) else 1)


def test_weak_references_while_monitoring(outcomes):
    def receiver(**kwargs):
        pass

    def scenario():
        signal = Signal()
        signal.connect(receiver, weak=False)
        with monitoring.subscribe(id):
            signal.send(Sender)
            return weakref.getweakrefcount(signal), weakref.getweakrefcount(receiver)

    stock, swapped = outcomes(scenario)
    assert stock == (0, 0)
    assert swapped in ((1, 0), (1, 1))


@pytest.mark.skipif(sys.platform == "win32", reason="needs setitimer()")
def test_a_limit_that_hits_a_subscriber(outcomes):
    class Limit(Exception):
        pass

    def limit(number, frame):
        raise Limit

    def scenario():
        signal = Signal()
        signal.connect(receive)
        before = os_signal.signal(os_signal.SIGALRM, limit)
        try:
            with monitoring.subscribe(lambda call: time.sleep(1), slower_than=0):
                os_signal.setitimer(os_signal.ITIMER_REAL, 0.2)
                signal.send(Sender)
            # Stock Django calls no subscriber, so the limit hits here.
            time.sleep(1)
        except Limit:
            return "raised"
        finally:
            os_signal.setitimer(os_signal.ITIMER_REAL, 0)
            os_signal.signal(os_signal.SIGALRM, before)
        return "logged"

    assert outcomes(scenario) == ("raised", "logged")
