"""From synchronous to asynchronous code and back: on which thread, in what order."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import asgiref.local
import asgiref.sync
import pytest
from asgiref.sync import async_to_sync, sync_to_async

from altdispatch.releases import SYNC_RECEIVERS_FIRST


class Sender:
    pass


local = asgiref.local.Local()


async def nothing(**kwargs):
    return "nothing"


async def calls(**kwargs):
    return await sync_to_async(threading.get_ident)()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_sends_that_nest(assert_same, depth):
    """From synchronous to asynchronous code and back; nobody waits for ever."""

    def scenario(Signal):
        signal = Signal()
        notes = []
        home = threading.current_thread()

        def synchronous(level, **kwargs):
            notes.append((level, "called", threading.current_thread() is home))
            return level

        async def asynchronous(level, **kwargs):
            notes.append((level, "starts"))
            if level < depth:
                answers = await sync_to_async(signal.send)(Sender, level=level + 1)
                notes.append((level, [answer for _, answer in answers]))
                answers = await signal.asend(Sender, level=depth)
            notes.append((level, "ends"))
            return level

        signal.connect(synchronous)
        signal.connect(asynchronous)
        answers = signal.send(Sender, level=0)
        # Up to 6.0 the two kinds run at the same time.
        return [answer for _, answer in answers], sorted(notes, key=repr)

    answers, notes = assert_same(scenario)
    assert answers == [0, 0]
    assert all(home for _, what, home in (n for n in notes if len(n) == 3))


def test_sends_that_nest_deeply(assert_same):
    """Each task waits for the next one, and no stack grows."""

    def scenario(Signal):
        signal = Signal()

        async def receiver(level, **kwargs):
            if level == 2000:
                return level
            ((_, answer),) = await signal.asend(Sender, level=level + 1)
            return answer

        signal.connect(receiver)
        return [answer for _, answer in asyncio.run(signal.asend(Sender, level=0))]

    assert assert_same(scenario) == [2000]


def test_work_that_waits_for_what_else_the_loop_does(assert_same):
    """Synchronous code of one receiver, for asynchronous code of another."""

    def scenario(Signal):
        signal = Signal()
        happened = threading.Event()

        async def first(**kwargs):
            return await sync_to_async(happened.wait)(60)

        async def second(**kwargs):
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            happened.set()

        signal.connect(first)
        signal.connect(second)
        return [answer for _, answer in signal.send(Sender)]

    assert assert_same(scenario) == [True, None]


def test_work_that_waits_for_what_the_loop_reads(assert_same):
    def scenario(Signal):
        signal = Signal()
        happened = threading.Event()
        ours, theirs = socket.socketpair()

        def write_and_wait():
            theirs.send(b"x")
            return happened.wait(60)

        async def receiver(**kwargs):
            loop = asyncio.get_running_loop()
            loop.add_reader(ours, happened.set)
            answer = await sync_to_async(write_and_wait)()
            loop.remove_reader(ours)
            return answer

        signal.connect(receiver)
        with ours, theirs:
            return [answer for _, answer in signal.send(Sender)]

    assert assert_same(scenario) == [True]


def test_work_that_nobody_waits_for(assert_same):
    """Handed to asgiref's executor, without the loop's knowing."""

    def scenario(Signal):
        signal = Signal()
        notes = []

        async def receiver(**kwargs):
            executor = asgiref.sync.AsyncToSync.executors.current
            executor.submit(lambda: notes.append(threading.current_thread() is home))

        home = threading.current_thread()
        signal.connect(receiver)
        signal.send(Sender)
        return notes

    assert assert_same(scenario) == [True]


def test_work_that_turns_wait_for(assert_same):
    """Asynchronous code of one receiver, for synchronous code of another."""

    def scenario(Signal):
        signal = Signal()
        happened = []

        async def first(**kwargs):
            await sync_to_async(happened.append)(1)

        async def second(**kwargs):
            while not happened:
                await asyncio.sleep(0)
            return "seen"

        signal.connect(first)
        signal.connect(second)
        return [answer for _, answer in signal.send(Sender)]

    assert assert_same(scenario) == [None, "seen"]


def test_work_that_wakes_its_loop(assert_same):
    """As run_coroutine_threadsafe() does, and other threads do."""

    def scenario(Signal):
        signal = Signal()
        notes = []

        async def receiver(**kwargs):
            loop = asyncio.get_running_loop()

            async def inner():
                notes.append(asyncio.get_running_loop() is loop)
                await asyncio.sleep(0)
                return "inner"

            def work():
                future = asyncio.run_coroutine_threadsafe(inner(), loop)
                notes.append(future.result(60))
                return async_to_sync(inner)()

            event = asyncio.Event()

            def wake():
                thread = threading.Thread(
                    target=loop.call_soon_threadsafe, args=(event.set,)
                )
                thread.start()
                thread.join()

            notes.append(await sync_to_async(work)())
            await asyncio.gather(sync_to_async(wake)(), event.wait())
            return "done"

        signal.connect(receiver)
        return [answer for _, answer in signal.send(Sender)], notes

    assert assert_same(scenario) == (["done"], [True, "inner", True, "inner"])


def test_local_data(assert_same):
    """asgiref's, which Django keeps languages and URL prefixes in."""

    def scenario(Signal):
        signal = Signal()
        notes = []

        def call_back():
            notes.append(("later", getattr(local, "value", None)))

        async def first(**kwargs):
            notes.append(("first", getattr(local, "value", None)))
            asyncio.get_running_loop().call_later(0.001, call_back)
            local.mine = "first"
            await asyncio.sleep(0.01)
            notes.append(("first waited", getattr(local, "value", None), local.mine))
            task = asyncio.create_task(asyncio.sleep(0.001))
            await task
            await sync_to_async(change)()
            notes.append(("first called", getattr(local, "value", None), local.mine))

        def change():
            notes.append(("change", getattr(local, "value", None), local.mine))
            local.mine = "changed"

        signal.connect(first)

        def act():
            local.value = "sender's"
            signal.send(Sender)
            return local.value, getattr(local, "mine", None)

        after = contextvars.Context().run(act)
        return after, notes

    after, _ = assert_same(scenario)
    # Up to 6.0 each receiver has a context of its own.
    assert after == ("sender's", "changed" if SYNC_RECEIVERS_FIRST else None)


def test_local_data_of_synchronous_receivers(assert_same):
    def scenario(Signal):
        signal = Signal()
        notes = []

        def receiver(**kwargs):
            notes.append(getattr(local, "value", None))
            local.mine = "receiver's"

        async def main():
            local.value = "sender's"
            await signal.asend(Sender)
            notes.append(getattr(local, "mine", None))

        signal.connect(receiver)
        asyncio.run(main())
        return notes

    notes = assert_same(scenario)
    # Up to 6.0 it is called in a task of its own.
    assert notes == ["sender's", "receiver's" if SYNC_RECEIVERS_FIRST else None]


def test_threads_for_synchronous_code(assert_same):
    """One for the process, or one for each context that asks for its own."""

    def scenario(Signal):
        signal = Signal()
        threads = []
        errors = []
        signal.connect(
            lambda **kw: threads.append(threading.current_thread()), weak=False
        )

        async def note():
            threads.append(await sync_to_async(threading.current_thread)())

        async def send_after_the_end():
            executor = ThreadPoolExecutor(max_workers=1)
            sensitive = asgiref.sync.ThreadSensitiveContext(executor=executor)
            async with sensitive:
                await signal.asend(Sender)
                await note()
                context = contextvars.copy_context()
            task = asyncio.create_task(signal.asend(Sender), context=context)
            try:
                await task
            except RuntimeError as error:
                errors.append(str(error))
            executor.shutdown()

        async def main():
            await signal.asend(Sender)
            await note()
            async with asgiref.sync.ThreadSensitiveContext():
                await signal.asend(Sender)
                await note()
                await signal.asend_robust(Sender)
            if (
                "executor"
                in inspect.signature(asgiref.sync.ThreadSensitiveContext).parameters
            ):
                await send_after_the_end()
            await signal.asend(Sender)

        asyncio.run(main())
        numbers = {
            thread: number for number, thread in enumerate(dict.fromkeys(threads))
        }
        return [numbers[thread] for thread in threads], errors

    numbers, errors = assert_same(scenario)
    assert numbers[:5] == [0, 0, 1, 1, 1]
    assert len(errors) == (len(numbers) > 6)


def test_thread_of_a_task_with_a_context_of_its_own(assert_same):
    """The loop knows the thread that waits for it where the context doesn't."""

    def scenario(Signal):
        signal, inner = Signal(), Signal()
        home = threading.current_thread()

        async def receiver(**kwargs):
            return await asyncio.get_running_loop().create_task(
                inner.asend(Sender), context=contextvars.Context()
            )

        signal.connect(receiver)
        inner.connect(lambda **kw: threading.current_thread() is home, weak=False)
        ((_, ((_, is_home),)),) = signal.send(Sender)
        return is_home

    assert assert_same(scenario) is True


@pytest.mark.parametrize("how", ["sync_to_async", "asend"])
def test_loop_in_the_thread_for_synchronous_code(assert_same, how):
    """What waits in there for that thread is refused: it would wait for ever."""

    def scenario(Signal):
        signal, inner = Signal(), Signal()

        async def call():
            if how == "asend":
                return await inner.asend(Sender)
            return await sync_to_async(int)()

        def receiver(**kwargs):
            try:
                return asyncio.run(asyncio.wait_for(call(), 5))
            except (RuntimeError, TimeoutError) as error:
                return repr(error)

        signal.connect(receiver)
        inner.connect(lambda **kwargs: 1, weak=False)
        return [answer for _, answer in asyncio.run(signal.asend(Sender))]

    (error,) = assert_same(scenario)
    assert "would deadlock" in error


def test_one_thread_for_asynchronous_code(assert_same):
    """asgiref's context for that is heeded."""

    if not hasattr(asgiref.sync, "AsyncSingleThreadContext"):
        pytest.skip("needs asgiref 3.10")

    def scenario(Signal):
        signal = Signal()
        threads = []

        async def receiver(**kwargs):
            threads.append(threading.get_ident())

        signal.connect(receiver)
        with asgiref.sync.AsyncSingleThreadContext():
            signal.send(Sender)
            signal.send(Sender)
        return threads[0] == threads[1], threads[0] == threading.get_ident()

    assert assert_same(scenario) == (True, False)


def test_bridges_that_are_replaced(assert_same, monkeypatch):
    """In Django's module: what is there is used."""
    import django.dispatch.dispatcher as stock

    def scenario(Signal):
        signal = Signal()
        notes = []

        def to_sync(function):
            notes.append("async_to_sync")
            return async_to_sync(function)

        def to_async(function):
            notes.append("sync_to_async")
            return sync_to_async(function)

        signal.connect(nothing)
        signal.connect(lambda **kw: "synchronous", weak=False)
        with monkeypatch.context() as patched:
            patched.setattr(stock, "async_to_sync", to_sync)
            patched.setattr(stock, "sync_to_async", to_async)
            signal.send(Sender)
            asyncio.run(signal.asend(Sender))
        return notes

    assert assert_same(scenario) == ["async_to_sync", "sync_to_async"]
