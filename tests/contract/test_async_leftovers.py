"""Resources after a send: threads, event loops, files and context data."""

from __future__ import annotations

import asyncio
import gc
import os
import signal as signals
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync, sync_to_async


class Sender:
    pass


def in_new_thread(function):
    """Call a function in a new thread and return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


async def nothing(**kwargs):
    return "nothing"


async def waits(**kwargs):
    await asyncio.sleep(0.001)
    return "waits"


async def calls(**kwargs):
    return await sync_to_async(threading.get_ident)()


async def calls_in_thread(**kwargs):
    await asyncio.to_thread(int)


async def waits_for_thread(**kwargs):
    # Only the other thread can wake the loop.
    async with asyncio.timeout(30):
        await asyncio.to_thread(time.sleep, 0.01)
    return "woken"


async def fails(**kwargs):
    raise ValueError("this")


async def leaves_task(**kwargs):
    asyncio.get_running_loop().task = asyncio.create_task(asyncio.sleep(60))


async def opens_socket(**kwargs):
    reading, writing = os.pipe()
    asyncio.get_running_loop().add_reader(reading, print)
    opened_pipes.append((reading, writing))


opened_pipes = []


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux")
@pytest.mark.parametrize(
    "receiver",
    [nothing, waits, calls, calls_in_thread, fails, leaves_task, opens_socket],
)
@pytest.mark.parametrize("how", ["send_robust", "asend_robust"])
def test_threads_and_files_are_released(Signal, how, receiver):
    signal = Signal()
    signal.connect(receiver)

    def send():
        if how.startswith("a"):
            asyncio.run(signal.asend_robust(Sender))
        else:
            signal.send_robust(Sender)
        for descriptor in [one for pair in opened_pipes for one in pair]:
            os.close(descriptor)
        opened_pipes.clear()

    def count():
        # asgiref's executor and its thread end when it is collected. PyPy doesn't count
        # references.
        gc.collect()
        time.sleep(0.01)
        return threading.active_count(), open_files()

    send()
    threads, files = count()
    for _ in range(20):
        send()
    # A thread may take its time to end, and PyPy more than one look for garbage.
    end = time.monotonic() + 30
    while (now := count())[0] > threads or now[1] > files:
        assert time.monotonic() < end, f"from {threads, files} to {now}"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux")
def test_files_are_released_at_the_end_of_a_thread(Signal):
    signal = Signal()
    signal.connect(nothing)
    before = open_files()
    in_new_thread(lambda: [signal.send(Sender) for _ in range(3)])
    assert open_files() == before


@pytest.mark.parametrize("references", [1, 2, 3])
@pytest.mark.parametrize("step", [nothing, waits])
def test_referenced_loop_is_closed(assert_same, step, references):
    """The loop is closed whatever the number of references to it."""

    def scenario(Signal):
        signal = Signal()
        loops = []

        async def receiver(**kwargs):
            loops.extend([asyncio.get_running_loop()] * references)
            await step()

        signal.connect(receiver)
        signal.send(Sender)
        signal.send(Sender)
        return {loop.is_closed() for loop in loops}, loops[0] is loops[-1]

    assert assert_same(scenario) == ({True}, False)


def test_default_executor_set_by_a_receiver(assert_same):
    """The executor is shut down with the loop."""

    def scenario(Signal):
        signal = Signal()
        executor = ThreadPoolExecutor()

        async def receiver(**kwargs):
            asyncio.get_running_loop().set_default_executor(executor)

        signal.connect(receiver)
        signal.send(Sender)
        return executor.submit(int)

    assert assert_same(scenario)[0] is RuntimeError


def test_loop_changed_by_a_receiver(assert_same):
    """The next send uses an unchanged loop."""

    def scenario(Signal):
        signal = Signal()
        seen = []

        def handle(loop, context):
            pass

        async def receiver(**kwargs):
            loop = asyncio.get_running_loop()
            seen.append(
                [
                    loop.get_debug(),
                    loop.get_exception_handler(),
                    loop.get_task_factory(),
                    loop.slow_callback_duration,
                    hasattr(loop, "attribute"),
                ]
            )
            changes[len(seen) - 1](loop)

        changes = [
            lambda loop: loop.set_debug(True),
            lambda loop: loop.set_exception_handler(handle),
            lambda loop: loop.set_task_factory(
                lambda loop, c, **kw: asyncio.Task(c, loop=loop, **kw)
            ),
            lambda loop: setattr(loop, "slow_callback_duration", 7),
            lambda loop: setattr(loop, "attribute", 1),
            lambda loop: None,
        ]
        signal.connect(receiver)
        for _ in changes:
            signal.send(Sender)
        return seen

    seen = assert_same(scenario)
    assert seen[-1] == seen[0]


def test_synchronous_code_after_a_send(assert_same):
    """A send leaves no running loop behind in its thread."""

    def scenario(Signal):
        signal = Signal()
        signal.connect(calls)
        sender_thread = threading.get_ident()

        async def get_thread():
            return await sync_to_async(threading.get_ident)()

        def send_and_call():
            results = []
            for _ in range(3):
                threads = [thread for _, thread in signal.send(Sender)]
                results.append([thread == sender_thread for thread in threads])
                results.append(async_to_sync(get_thread)() == threading.get_ident())
            return results

        return send_and_call(), len(in_new_thread(send_and_call))

    assert assert_same(scenario) == ([[True], True] * 3, 6)


def test_work_that_is_not_awaited(Signal):
    """Submitted work runs in the sender's thread, or not at all."""
    signal = Signal()
    threads = []

    async def receiver(**kwargs):
        bridge = sync_to_async(lambda: threads.append(threading.get_ident()))
        asyncio.get_running_loop().future = asyncio.ensure_future(bridge())
        for _ in range(3):
            await asyncio.sleep(0)

    signal.connect(receiver)
    for _ in range(3):
        signal.send(Sender)
    assert set(threads) <= {threading.get_ident()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_fork(assert_same):
    """A forked child can send, and uses nothing of its parent's loop."""

    def scenario(Signal):
        signal = Signal()
        signal.connect(nothing)
        signal.connect(calls)
        signal.connect(waits)

        def send():
            return [response for _, response in signal.send(Sender)]

        sender_thread = threading.get_ident()
        expected = ["nothing", sender_thread, "waits"]
        signal.disconnect(waits)
        results = [send() == expected[:2]]
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signals.alarm(60)
                is_same = send() == expected[:2]
                signal.connect(waits)
                status = 0 if is_same and send() == expected == send() else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        results += [os.waitstatus_to_exitcode(status), send() == expected[:2]]
        signal.connect(waits_for_thread)
        results.append(send() == [*expected[:2], "woken"])
        signal.disconnect(waits_for_thread)
        signal.connect(waits)
        return [*results, send() == expected]

    assert assert_same(scenario) == [True, 0, True, True, True]


def test_shutdown(run_python):
    """The interpreter exits without output while a thread is sending."""
    output = run_python(
        """
        import asyncio, threading, time
        from django.conf import settings
        settings.configure()
        import altdispatch
        signal = altdispatch.Signal()

        async def receiver(sender, **kwargs):
            if sender:
                time.sleep(2)

        signal.connect(receiver)
        signal.send(None)
        thread = threading.Thread(target=signal.send, args=[1], daemon=True)
        thread.start()
        other = threading.Thread(target=signal.send, args=[None])
        other.start()
        other.join()
        print("ends")
        """,
        "-W",
        "error",
    )
    assert output == "ends\n"
