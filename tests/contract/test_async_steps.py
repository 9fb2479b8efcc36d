"""The order of the steps of receivers and their sender."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import markcoroutinefunction

from altdispatch.releases import SYNC_RECEIVERS_FIRST

AssertSame = Callable[[Callable[[type], Any]], Any]


class Sender:
    pass


def connected_signal(Signal: type, *receivers: Callable[..., Any]) -> Any:
    signal = Signal()
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return signal


def make_receiver(notes: list[Any], name: str, steps: int = 4, cleans_up: bool = False):
    """Return a receiver that records its steps and its cancellation."""

    async def receiver(**kwargs):
        try:
            for step in range(steps):
                notes.append(f"{name}.{step}")
                await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            notes.append(f"{name} is cancelled {error}")
            if cleans_up:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                notes.append(f"{name} has cleaned up")
            raise

    return receiver


def test_receiver_that_clears_the_looked_up_list(assert_same: AssertSame) -> None:
    """A patched look-up returns the list."""

    def scenario(Signal):
        found: list[Any] = []

        @markcoroutinefunction
        def empties(**kwargs):
            found.clear()
            return waits()

        async def waits(**kwargs):
            await asyncio.sleep(0)

        signal = connected_signal(Signal, waits)
        signal._live_receivers = lambda sender: ([], found)
        outcomes = []
        for _ in range(3):
            found[:] = [empties]
            outcomes.append(asyncio.run(signal.asend(Sender)))
        return outcomes

    assert assert_same(scenario) == [[]] * 3


@pytest.mark.skipif(not SYNC_RECEIVERS_FIRST, reason="gather() is cancelled too")
def test_receivers_that_cancel_themselves(assert_same: AssertSame) -> None:
    """A wrapper of the receiver keeps its result despite the cancellation."""

    def scenario(Signal):
        async def returns(**kwargs):
            asyncio.current_task().cancel()
            return "answer"

        async def raises(**kwargs):
            asyncio.current_task().cancel()
            raise ValueError("lost")

        async def waits(**kwargs):
            asyncio.current_task().cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                return "cancelled"

        signal = connected_signal(Signal, returns, raises, waits)
        outcomes = [
            signal.send_robust(Sender),
            asyncio.run(signal.asend_robust(Sender)),
        ]
        for receiver in (raises, waits):
            signal.disconnect(receiver)
        outcomes += [signal.send(Sender), asyncio.run(signal.asend(Sender))]
        return [[repr(each) for _, each in responses] for responses in outcomes]

    both = ["'answer'", "ValueError('lost')", "'cancelled'"]
    assert assert_same(scenario) == [both, both, ["'answer'"], ["'answer'"]]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_errors_that_stop_the_loop(
    assert_same: AssertSame, error: type[BaseException], late: bool, place: int
) -> None:
    """Other receivers are cancelled where they wait, or don't start."""

    def scenario(Signal):
        notes = []

        async def ends(**kwargs):
            if late:
                await asyncio.sleep(0)
            raise error(3)

        async def main():
            try:
                await signal.asend(Sender)
            except BaseException as raised:
                notes.append(repr(raised))

        receivers = [make_receiver(notes, "a"), make_receiver(notes, "b")]
        receivers.insert(place, ends)
        signal = connected_signal(Signal, *receivers)
        with pytest.raises(error):
            asyncio.run(main())
        # Receivers that haven't started are never awaited, and must warn in this test.
        gc.collect()
        # asyncio cancels the remaining tasks in the order of a set.
        return sorted(notes)

    notes = assert_same(scenario)
    assert "a.0" in notes or not place


@pytest.mark.parametrize("turns", range(7))
@pytest.mark.parametrize("cleans_up", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_cancelled_senders(
    assert_same: AssertSame, turns: int, cleans_up: bool, again: bool
) -> None:
    """Code outside the send cancels them after some steps."""

    def scenario(Signal):
        notes = []
        signal = connected_signal(
            Signal,
            make_receiver(notes, "a", cleans_up=cleans_up),
            make_receiver(notes, "b", cleans_up=cleans_up),
        )

        async def main():
            sender = asyncio.create_task(signal.asend(Sender))
            for _ in range(turns):
                await asyncio.sleep(0)
            sender.cancel("once")
            if again:
                await asyncio.sleep(0)
                sender.cancel("again")
            try:
                await sender
            except asyncio.CancelledError as error:
                notes.append(repr(error))
            notes.append(sender.cancelling())

        asyncio.run(main())
        return notes

    assert_same(scenario)


def test_receiver_that_fails_in_its_first_step(assert_same: AssertSame) -> None:
    def scenario(Signal):
        notes = []

        async def fails(**kwargs):
            raise ValueError("first step")

        async def main():
            try:
                await signal.asend(Sender)
            except ValueError as error:
                notes.append(
                    list(map(repr, (error, error.__cause__, error.__context__)))
                )
            notes.append(asyncio.current_task().cancelling())

        signal = connected_signal(
            Signal, make_receiver(notes, "a"), fails, make_receiver(notes, "b")
        )
        asyncio.run(main())
        return notes

    assert_same(scenario)


@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="PyPy closes it when it is collected"
)
def test_unfinished_generators(assert_same: AssertSame) -> None:
    """They are closed before the sender goes on."""

    def scenario(Signal):
        notes = []

        async def receiver(**kwargs):
            async def generate():
                try:
                    yield 1
                    yield 2
                finally:
                    notes.append("closed")

            async for _ in generate():
                break
            notes.append("receiver")

        async def main():
            for _ in range(2):
                await signal.asend(Sender)
                notes.append("sender")

        signal = connected_signal(Signal, receiver)
        asyncio.run(main())
        return notes

    assert assert_same(scenario) == ["receiver", "closed", "sender"] * 2


def test_receivers_that_return_futures(assert_same: AssertSame) -> None:
    """Two fail: Django 6.1 raises both errors as a group."""

    def scenario(Signal):
        notes = []

        def failing(name):
            async def fail():
                notes.append(name)
                raise ValueError(name)

            return markcoroutinefunction(lambda **kw: asyncio.ensure_future(fail()))

        signal = connected_signal(
            Signal, failing("1"), failing("2"), make_receiver(notes, "a")
        )
        try:
            asyncio.run(signal.asend(Sender))
        except Exception as error:
            notes.append(repr(error))
        return notes

    error = assert_same(scenario)[-1]
    if SYNC_RECEIVERS_FIRST:
        assert error.startswith("ExceptionGroup(")
        assert error.count("ValueError(") == 2
    else:
        assert error == "ValueError('1')"


def test_names_of_coroutines(assert_same: AssertSame) -> None:
    """Warnings and tasks show the same names."""

    def scenario(Signal):
        names = []

        async def receiver(**kwargs):
            names.append(asyncio.current_task().get_coro().__qualname__)

        def refuse(loop, coroutine, **kwargs):
            raise OSError("no tasks")

        async def main():
            await signal.asend(Sender)
            asyncio.get_running_loop().set_task_factory(refuse)
            for how in (signal.asend, signal.asend_robust):
                with pytest.raises(OSError, match="no tasks"):
                    await how(Sender)
            asyncio.get_running_loop().set_task_factory(None)

        def replacement(function):
            function()
            return lambda *args: [9]

        signal = connected_signal(Signal, receiver)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            # Collect what other tests have left.
            gc.collect()
            warnings.simplefilter("always")
            asyncio.run(main())
            with mock.patch("django.dispatch.dispatcher.async_to_sync", replacement):
                names += [signal.send(Sender), signal.send_robust(Sender)]
            gc.collect()
        # The garbage collector finds them in any order.
        return names, sorted(str(warning.message) for warning in caught)

    assert_same(scenario)


def test_patched_async_to_sync(assert_same: AssertSame) -> None:
    """Its result is added to the responses."""

    def scenario(Signal):
        async def receiver(**kwargs):
            return "answer"

        signal = connected_signal(Signal, lambda **kw: "synchronous", receiver)
        async_to_sync = mock.patch(
            "django.dispatch.dispatcher.async_to_sync",
            return_value=lambda *args: [9],
        )
        with async_to_sync as patched:
            responses = signal.send(Sender)[1:], signal.send_robust(Sender)[1:]
        calls = patched.call_args_list
        functions = [call.args[0] for call in calls]
        return (
            responses,
            [inspect.iscoroutinefunction(function) for function in functions],
            [function.__qualname__ for function in functions],
        )

    assert assert_same(scenario)[0] == ([9], [9])
