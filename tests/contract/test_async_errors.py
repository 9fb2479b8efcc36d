"""Errors and cancellation of senders and of asynchronous receivers."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal as signals
import sys
import threading
import time

import pytest
from asgiref.sync import AsyncToSync, async_to_sync, sync_to_async

from altdispatch.releases import SYNC_RECEIVERS_FIRST

from .interrupts import interrupt_main_thread

pytestmark = pytest.mark.monitored


class Sender:
    pass


def test_send_while_an_error_is_handled(assert_same):
    """Receivers don't see the sender's error, nor is it the context of theirs."""

    def scenario(Signal):
        signal = Signal()
        seen = []

        async def receiver(**kwargs):
            seen.append(sys.exc_info()[0])
            raise KeyError("receiver's")

        async def other(**kwargs):
            await asyncio.sleep(0)
            seen.append(sys.exc_info()[0])

        def synchronous(**kwargs):
            seen.append(("synchronous", sys.exc_info()[0]))

        for each in (receiver, other):
            signal.connect(each)
        if SYNC_RECEIVERS_FIRST:
            signal.connect(synchronous)

        async def main():
            try:
                raise OSError("sender's")
            except OSError:
                await signal.asend(Sender)

        outcomes = []
        for how in ("send", "asend"):
            try:
                if how == "asend":
                    asyncio.run(main())
                else:
                    try:
                        raise OSError("sender's")
                    except OSError:
                        signal.send(Sender)
            except KeyError as error:
                outcomes.append(repr(error.__context__))
        return outcomes, sorted(seen, key=repr)

    assert assert_same(scenario)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("how", ["send", "asend"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("goes_on", [False, True])
def test_errors_that_stop_the_loop(assert_same, how, error, late, first, goes_on):
    """Other receivers end in the same way, also if the sender catches the error."""

    def scenario(Signal):
        signal = Signal()
        notes = []

        async def before(**kwargs):
            try:
                notes.append("before")
                await asyncio.sleep(0)
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                notes.append("cancelled")
                raise

        async def receiver(**kwargs):
            notes.append("receiver")
            if late:
                await asyncio.sleep(0)
            raise error("this")

        async def after(**kwargs):
            notes.append("after")
            await asyncio.sleep(0)
            notes.append("later")

        receivers = [receiver, before, after] if first else [before, receiver, after]
        for each in receivers:
            signal.connect(each)

        async def main():
            try:
                await signal.asend(Sender)
            except BaseException as raised:
                notes.append(type(raised))
                if not goes_on:
                    raise

        try:
            if how == "send":
                signal.send(Sender)
            else:
                asyncio.run(main())
        except BaseException as raised:
            notes.append((type(raised), str(raised)))
        signal.disconnect(receiver)
        signal.disconnect(before)
        signal.send(Sender)
        gc.collect()  # Coroutines that were never awaited warn now.
        return notes

    assert (error, "this") in assert_same(scenario)


@pytest.mark.parametrize("beside", ["nothing", "waits", "cancels itself"])
def test_context_chain_of_an_error(assert_same, beside):
    """Each error of the chain has the same context as on stock Django."""

    def scenario(Signal):
        async def fails(**kwargs):
            raise ValueError("this")

        async def waits(**kwargs):
            await asyncio.sleep(0)

        async def cancels(**kwargs):
            raise asyncio.CancelledError

        async def main():
            try:
                await signal.asend(Sender)
            except ValueError as error:
                contexts = [error]
                while contexts[-1] is not None:
                    contexts.append(contexts[-1].__context__)
                return list(map(repr, contexts))

        signal = Signal()
        signal.connect(fails)
        if beside != "nothing":
            signal.connect(waits if beside == "waits" else cancels)
        return asyncio.run(main())

    assert assert_same(scenario)[-1] == "None"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("first", [False, True])
def test_loop_that_is_run_again_after_it_stopped(assert_same, error, first):
    def scenario(Signal):
        notes = []

        async def ends(**kwargs):
            raise error("this")

        def make_receiver(name):
            async def receiver(**kwargs):
                notes.append(f"{name} starts")
                await asyncio.sleep(0)
                notes.append(f"{name} ends")

            return receiver

        async def main():
            try:
                await signal.asend(Sender)
            except BaseException as raised:
                notes.append(repr(raised))

        signal = Signal()
        receivers = [ends] if first else [make_receiver("before"), ends]
        for each in (*receivers, make_receiver("after"), make_receiver("last")):
            signal.connect(each, weak=False)
        loop = asyncio.new_event_loop()
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except BaseException as raised:
            notes.append(f"stopped by {raised!r}")
        try:
            loop.run_until_complete(task)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        # A receiver that waits is one iteration ahead of those that haven't started.
        return notes if first else sorted(notes)

    assert "after starts" in assert_same(scenario)


def test_receiver_that_cancels_the_sender(assert_same):
    def scenario(Signal):
        notes = []
        for waiting in (False, True):
            signal = Signal()

            async def receiver(sender, waiting=waiting, **kwargs):
                sender.cancel()
                if waiting:
                    await asyncio.sleep(60)
                notes.append("ends")

            signal.connect(receiver)

            async def main(signal=signal):
                task = asyncio.current_task()
                try:
                    notes.append(await signal.asend(task))
                except asyncio.CancelledError:
                    notes.append(("cancelled", task.cancelling()))
                    raise

            try:
                asyncio.run(main())
            except asyncio.CancelledError:
                notes.append("cancelled")
        return notes

    assert assert_same(scenario)[0] == "ends"


def test_cancelled_sender(assert_same):
    """Receivers of a sender with a pending cancellation make only their first step."""

    def scenario(Signal):
        signal = Signal()
        notes = []

        async def receiver(**kwargs):
            notes.append("receiver")
            await asyncio.sleep(0)
            if "cancelled" not in notes:
                notes.append("goes on")

        signal.connect(receiver)

        async def main():
            asyncio.current_task().cancel()
            try:
                await signal.asend(Sender)
            except asyncio.CancelledError:
                notes.append("cancelled")
                await signal.asend(Sender)
                notes.append("sent")

        asyncio.run(main())
        return notes

    notes = assert_same(scenario)
    assert notes[-3:] == ["cancelled", "receiver", "sent"]
    assert len(notes) == (4 if SYNC_RECEIVERS_FIRST else 3)


@pytest.mark.parametrize("nested", [False, True, "inner goes on", "receiver goes on"])
def test_cancelling_while_a_synchronous_receiver_runs(assert_same, nested):
    def scenario(Signal):
        signal = Signal()
        notes = []
        started = threading.Event()
        go_on = threading.Event()

        async def inner():
            started.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                notes.append("inner is cancelled")
                if nested == "inner goes on":
                    return
                raise

        def receiver(**kwargs):
            if nested:
                try:
                    async_to_sync(inner)()
                except asyncio.CancelledError:
                    notes.append("receiver is cancelled")
                    if nested != "receiver goes on":
                        raise
            else:
                started.set()
                go_on.wait(60)
                notes.append("receiver ends")

        signal.connect(receiver)

        async def main():
            task = asyncio.create_task(signal.asend(Sender))
            while not started.is_set():
                await asyncio.sleep(0.001)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                notes.append("cancelled")
            go_on.set()
            await sync_to_async(int)()

        asyncio.run(main())
        return sorted(notes)

    notes = assert_same(scenario)
    assert ("inner is cancelled" in notes) is bool(nested)


def test_cancelling_again_while_a_synchronous_receiver_runs(assert_same):
    def scenario(Signal):
        signal = Signal()
        notes = []

        async def inner():
            for _ in range(2):
                try:
                    notes.append("inner waits")
                    await asyncio.sleep(5)
                except asyncio.CancelledError:
                    notes.append("inner is cancelled")

        def receiver(**kwargs):
            async_to_sync(inner)()
            return "answer"

        signal.connect(receiver)

        async def main():
            task = asyncio.create_task(signal.asend(Sender))
            for times in (1, 2):
                while notes.count("inner waits") < times:
                    await asyncio.sleep(0.001)
                task.cancel()
            try:
                notes.append([response for _, response in await task])
            except asyncio.CancelledError:
                notes.append("cancelled")
            await sync_to_async(int)()

        asyncio.run(main())
        return sorted(notes, key=str)

    notes = assert_same(scenario)
    assert notes.count("inner is cancelled") == 2


class Limit(Exception):
    """What a signal handler raises, as for Celery's soft time limit."""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGUSR1")
@pytest.mark.parametrize(
    ("moment", "how"),
    [
        # For asend(), the loop logs the error, as that of any other callback.
        ("ended", "send"),
        ("ended", "send_robust"),
        *(
            (moment, how)
            for moment in ("carried back", "paired")
            for how in ("send", "asend", "send_robust", "asend_robust")
        ),
    ],
)
def test_handler_that_raises_while_results_are_collected(assert_same, moment, how):
    """The error comes out of the send: the receivers have ended, and nothing is left.

    A signal is delivered when the task of the last receiver has ended, when its changes
    to the context are carried back, or when the results are paired with the receivers.
    """
    if moment == "carried back" and not SYNC_RECEIVERS_FIRST:
        pytest.skip("each receiver has its own context")
    variable = contextvars.ContextVar("variable")

    def handle(number, frame):
        raise Limit

    def scenario(Signal):
        signal = Signal()
        notes = []
        loops = []
        armed = [True]

        def strike():
            if armed and notes[-2:] == ["first ends", "last ends"]:
                armed.clear()
                notes.append("signal")
                interrupt_main_thread(signals.SIGUSR1)

        class Value:
            def __ne__(self, other):
                strike()
                return True

        class Found(list):
            def __iter__(self):
                for receiver in list(super().__iter__()):
                    if receiver is last:
                        strike()
                    yield receiver

        async def first(**kwargs):
            loops.append(asyncio.get_running_loop())
            if moment == "carried back":
                variable.set(Value())
            await asyncio.sleep(0.002)
            notes.append("first ends")
            return "first"

        async def last(**kwargs):
            await asyncio.sleep(0.004)
            if moment == "ended":
                task = asyncio.current_task()
                task.add_done_callback(lambda task: strike())
            notes.append("last ends")
            return "last"

        signal.connect(first)
        signal.connect(last)
        if moment == "paired":
            signal._live_receivers = lambda sender: ([], Found([first, last]))

        async def main():
            variable.set(Value())
            return await getattr(signal, how)(Sender)

        def send():
            if how.startswith("a"):
                return asyncio.run(main())
            variable.set(Value())
            return getattr(signal, how)(Sender)

        for _ in range(2):
            try:
                responses = contextvars.copy_context().run(send)
                notes.append([response for _, response in responses])
            except Limit:
                notes.append("limit")
            # The thread of a synchronous send closes its loop a moment later.
            while not loops[-1].is_closed():
                time.sleep(0.001)
        return notes, getattr(AsyncToSync.executors, "current", None), armed

    before = signals.signal(signals.SIGUSR1, handle)
    try:
        notes, executor, armed = assert_same(scenario)
    finally:
        signals.signal(signals.SIGUSR1, before)
    ends = ["first ends", "last ends"]
    assert notes == [*ends, "signal", "limit", *ends, ["first", "last"]]
    assert (executor, armed) == (None, [])
