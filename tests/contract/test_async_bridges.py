"""Calls between synchronous and asynchronous code: their threads and order."""

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
def test_nested_sends(assert_same, depth):
    """Sends alternate between synchronous and asynchronous code without deadlock."""

    def scenario(Signal):
        signal = Signal()
        notes = []
        sender_thread = threading.current_thread()

        def synchronous(level, **kwargs):
            in_sender_thread = threading.current_thread() is sender_thread
            notes.append((level, "called", in_sender_thread))
            return level

        async def asynchronous(level, **kwargs):
            notes.append((level, "starts"))
            if level < depth:
                responses = await sync_to_async(signal.send)(Sender, level=level + 1)
                notes.append((level, [response for _, response in responses]))
                await signal.asend(Sender, level=depth)
            notes.append((level, "ends"))
            return level

        signal.connect(synchronous)
        signal.connect(asynchronous)
        responses = signal.send(Sender, level=0)
        # Up to Django 6.0, both kinds of receivers run at the same time.
        return [response for _, response in responses], sorted(notes, key=repr)

    responses, notes = assert_same(scenario)
    assert responses == [0, 0]
    assert all(is_sender for _, _, is_sender in (n for n in notes if len(n) == 3))


def test_deeply_nested_sends(assert_same):
    """Each task waits for the next one, and the stack doesn't grow."""

    def scenario(Signal):
        signal = Signal()

        async def receiver(level, **kwargs):
            if level == 2000:
                return level
            ((_, response),) = await signal.asend(Sender, level=level + 1)
            return response

        signal.connect(receiver)
        return [response for _, response in asyncio.run(signal.asend(Sender, level=0))]

    assert assert_same(scenario) == [2000]


def test_synchronous_code_waits_for_another_receiver(assert_same):
    """A receiver's synchronous code waits for another receiver's coroutine."""

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
        return [response for _, response in signal.send(Sender)]

    assert assert_same(scenario) == [True, None]


def test_synchronous_code_waits_for_a_socket(assert_same):
    def scenario(Signal):
        signal = Signal()
        happened = threading.Event()
        reading, writing = socket.socketpair()

        def write_and_wait():
            writing.send(b"x")
            return happened.wait(60)

        async def receiver(**kwargs):
            loop = asyncio.get_running_loop()
            loop.add_reader(reading, happened.set)
            result = await sync_to_async(write_and_wait)()
            loop.remove_reader(reading)
            return result

        signal.connect(receiver)
        with reading, writing:
            return [response for _, response in signal.send(Sender)]

    assert assert_same(scenario) == [True]


def test_synchronous_code_that_is_not_awaited(assert_same):
    """The receiver submits it to asgiref's executor, so the loop doesn't know it."""

    def scenario(Signal):
        signal = Signal()
        notes = []

        async def receiver(**kwargs):
            executor = asgiref.sync.AsyncToSync.executors.current
            executor.submit(record_thread)

        def record_thread():
            notes.append(threading.current_thread() is sender_thread)

        sender_thread = threading.current_thread()
        signal.connect(receiver)
        signal.send(Sender)
        return notes

    assert assert_same(scenario) == [True]


def test_receiver_polls_for_synchronous_code(assert_same):
    """A receiver's coroutine waits for another receiver's synchronous code."""

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
        return [response for _, response in signal.send(Sender)]

    assert assert_same(scenario) == [None, "seen"]


def test_synchronous_code_that_wakes_its_loop(assert_same):
    """It uses run_coroutine_threadsafe(), async_to_sync() and another thread."""

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
        return [response for _, response in signal.send(Sender)], notes

    assert assert_same(scenario) == (["done"], [True, "inner", True, "inner"])


def test_asgiref_locals(assert_same):
    """Django keeps languages and URL prefixes in them."""

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

        def set_and_send():
            local.value = "sender's"
            signal.send(Sender)
            return local.value, getattr(local, "mine", None)

        after = contextvars.Context().run(set_and_send)
        return after, notes

    after, _ = assert_same(scenario)
    # Up to Django 6.0, each receiver has its own context.
    assert after == ("sender's", "changed" if SYNC_RECEIVERS_FIRST else None)


def test_asgiref_locals_of_synchronous_receivers(assert_same):
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
    # Up to Django 6.0, the receiver runs in its own task.
    assert notes == ["sender's", "receiver's" if SYNC_RECEIVERS_FIRST else None]


def test_threads_for_synchronous_code(assert_same):
    """The process has one, and each ThreadSensitiveContext has its own."""

    def scenario(Signal):
        signal = Signal()
        threads = []
        errors = []
        signal.connect(
            lambda **kw: threads.append(threading.current_thread()), weak=False
        )

        async def record_thread():
            threads.append(await sync_to_async(threading.current_thread)())

        async def send_after_the_end():
            executor = ThreadPoolExecutor(max_workers=1)
            sensitive = asgiref.sync.ThreadSensitiveContext(executor=executor)
            async with sensitive:
                await signal.asend(Sender)
                await record_thread()
                context = contextvars.copy_context()
            task = asyncio.create_task(signal.asend(Sender), context=context)
            try:
                await task
            except RuntimeError as error:
                errors.append(str(error))
            executor.shutdown()

        async def main():
            await signal.asend(Sender)
            await record_thread()
            async with asgiref.sync.ThreadSensitiveContext():
                await signal.asend(Sender)
                await record_thread()
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


def test_thread_of_a_task_with_its_own_context(assert_same):
    """The loop, not the context, knows the thread that waits for it."""

    def scenario(Signal):
        signal, inner = Signal(), Signal()
        sender_thread = threading.current_thread()

        async def receiver(**kwargs):
            return await asyncio.get_running_loop().create_task(
                inner.asend(Sender), context=contextvars.Context()
            )

        signal.connect(receiver)
        inner.connect(
            lambda **kw: threading.current_thread() is sender_thread, weak=False
        )
        ((_, ((_, in_sender_thread),)),) = signal.send(Sender)
        return in_sender_thread

    assert assert_same(scenario) is True


@pytest.mark.parametrize("how", ["sync_to_async", "asend"])
def test_loop_in_the_thread_of_synchronous_code(assert_same, how):
    """Waiting for that thread in a loop inside it raises an error."""

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
        return [response for _, response in asyncio.run(signal.asend(Sender))]

    (error,) = assert_same(scenario)
    assert "would deadlock" in error


def test_async_single_thread_context(assert_same):
    """Sends use the thread of asgiref's context."""

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


def test_patched_bridges(assert_same, monkeypatch):
    """altdispatch looks up the bridges in Django's module."""
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
        with monkeypatch.context() as patch:
            patch.setattr(stock, "async_to_sync", to_sync)
            patch.setattr(stock, "sync_to_async", to_async)
            signal.send(Sender)
            asyncio.run(signal.asend(Sender))
        return notes

    assert assert_same(scenario) == ["async_to_sync", "sync_to_async"]
