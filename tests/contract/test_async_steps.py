"""In which order receivers and their sender make their steps."""

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


def signal_for(Signal: type, *receivers: Callable[..., Any]) -> Any:
    signal = Signal()
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return signal


def stepping(notes: list[Any], name: str, steps: int = 4, cleans_up: bool = False):
    """Return a receiver that notes its steps, and how it's cancelled."""

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


def test_receiver_that_empties_the_list_of_receivers(assert_same: AssertSame) -> None:
    """It is the list of a patched look-up."""

    def scenario(Signal):
        kept: list[Any] = []

        @markcoroutinefunction
        def empties(**kwargs):
            kept.clear()
            return waits()

        async def waits(**kwargs):
            await asyncio.sleep(0)

        signal = signal_for(Signal, waits)
        signal._live_receivers = lambda sender: ([], kept)
        outcomes = []
        for _ in range(3):
            kept[:] = [empties]
            outcomes.append(asyncio.run(signal.asend(Sender)))
        return outcomes

    assert assert_same(scenario) == [[]] * 3


@pytest.mark.skipif(not SYNC_RECEIVERS_FIRST, reason="gather() is cancelled, too")
def test_receivers_that_cancel_themselves(assert_same: AssertSame) -> None:
    """They have the last word: a wrapper keeps it."""

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

        signal = signal_for(Signal, returns, raises, waits)
        outcomes = [
            signal.send_robust(Sender),
            asyncio.run(signal.asend_robust(Sender)),
        ]
        for receiver in (raises, waits):
            signal.disconnect(receiver)
        outcomes += [signal.send(Sender), asyncio.run(signal.asend(Sender))]
        return [[repr(answer) for _, answer in answers] for answers in outcomes]

    both = ["'answer'", "ValueError('lost')", "'cancelled'"]
    assert assert_same(scenario) == [both, both, ["'answer'"], ["'answer'"]]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_errors_that_end_the_loop(
    assert_same: AssertSame, error: type[BaseException], late: bool, place: int
) -> None:
    """Others are cancelled where they are, or don't start."""

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

        receivers = [stepping(notes, "a"), stepping(notes, "b")]
        receivers.insert(place, ends)
        signal = signal_for(Signal, *receivers)
        with pytest.raises(error):
            asyncio.run(main())
        # What has not started is never awaited, and is to be so in this test.
        gc.collect()
        # The order in which what is left is cancelled is that of a set.
        return sorted(notes)

    notes = assert_same(scenario)
    assert "a.0" in notes or not place


@pytest.mark.parametrize("turns", range(7))
@pytest.mark.parametrize("cleans_up", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_senders_that_are_cancelled(
    assert_same: AssertSame, turns: int, cleans_up: bool, again: bool
) -> None:
    """After as many steps, by whatever is not of the send."""

    def scenario(Signal):
        notes = []
        signal = signal_for(
            Signal,
            stepping(notes, "a", cleans_up=cleans_up),
            stepping(notes, "b", cleans_up=cleans_up),
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


def test_a_receiver_that_fails_at_once(assert_same: AssertSame) -> None:
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

        signal = signal_for(Signal, stepping(notes, "a"), fails, stepping(notes, "b"))
        asyncio.run(main())
        return notes

    assert_same(scenario)


@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="it ends when it is collected"
)
def test_generators_that_are_left(assert_same: AssertSame) -> None:
    """Are closed before the sender goes on."""

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

        signal = signal_for(Signal, receiver)
        asyncio.run(main())
        return notes

    assert assert_same(scenario) == ["receiver", "closed", "sender"] * 2


def test_receivers_that_return_futures(assert_same: AssertSame) -> None:
    def scenario(Signal):
        notes = []

        def failing(name):
            async def fail():
                notes.append(name)
                raise ValueError(name)

            return markcoroutinefunction(lambda **kw: asyncio.ensure_future(fail()))

        signal = signal_for(Signal, failing("1"), failing("2"), stepping(notes, "a"))
        try:
            asyncio.run(signal.asend(Sender))
        except Exception as error:
            notes.append(repr(error))
        return notes

    assert_same(scenario)


def test_names_of_coroutines(assert_same: AssertSame) -> None:
    """In warnings, and of tasks."""

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

        def give(function):
            function()
            return lambda *args: [9]

        signal = signal_for(Signal, receiver)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            # What other tests have left.
            gc.collect()
            warnings.simplefilter("always")
            asyncio.run(main())
            with mock.patch("django.dispatch.dispatcher.async_to_sync", give):
                names += [signal.send(Sender), signal.send_robust(Sender)]
            gc.collect()
        # As they are found by the garbage collector.
        return names, sorted(str(warning.message) for warning in caught)

    assert_same(scenario)


def test_a_bridge_that_is_patched(assert_same: AssertSame) -> None:
    """Its answer is what the responses are extended with."""

    def scenario(Signal):
        async def receiver(**kwargs):
            return "answer"

        signal = signal_for(Signal, lambda **kw: "synchronous", receiver)
        bridge = mock.patch(
            "django.dispatch.dispatcher.async_to_sync",
            return_value=lambda *args: [9],
        )
        with bridge as patched:
            responses = signal.send(Sender)[1:], signal.send_robust(Sender)[1:]
        calls = patched.call_args_list
        functions = [call.args[0] for call in calls]
        return (
            responses,
            [inspect.iscoroutinefunction(function) for function in functions],
            [function.__qualname__ for function in functions],
        )

    assert assert_same(scenario)[0] == ([9], [9])
