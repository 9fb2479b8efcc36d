"""What is left of a send: threads, loops, files, data. And what isn't."""

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
    """Call a function in a thread of its own, and return its result."""
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


async def is_woken(**kwargs):
    # By nothing but the other thread.
    async with asyncio.timeout(30):
        await asyncio.to_thread(time.sleep, 0.01)
    return "woken"


async def fails(**kwargs):
    raise ValueError("this")


async def leaves_task(**kwargs):
    asyncio.get_running_loop().kept = asyncio.create_task(asyncio.sleep(60))


async def opens_socket(**kwargs):
    reading, writing = os.pipe()
    asyncio.get_running_loop().add_reader(reading, print)
    loop_closes.append((reading, writing))


loop_closes = []


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux")
@pytest.mark.parametrize(
    "receiver",
    [nothing, waits, calls, calls_in_thread, fails, leaves_task, opens_socket],
)
@pytest.mark.parametrize("how", ["send_robust", "asend_robust"])
def test_nothing_is_left(Signal, how, receiver):
    signal = Signal()
    signal.connect(receiver)

    def send():
        if how.startswith("a"):
            asyncio.run(signal.asend_robust(Sender))
        else:
            signal.send_robust(Sender)
        for descriptor in [one for pair in loop_closes for one in pair]:
            os.close(descriptor)
        loop_closes.clear()

    def count():
        """Count threads and files, once those that end have ended."""
        # asgiref leaves its executor to this, and a thread ends with it. PyPy doesn't
        # count references.
        gc.collect()
        least = threading.active_count(), open_files()
        for _ in range(20):
            time.sleep(0.005)
            least = min(least, (threading.active_count(), open_files()))
        return least

    send()
    before = count()
    for _ in range(20):
        send()
    # A thread of before may have taken its time.
    assert all(now <= then for now, then in zip(count(), before, strict=True))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux")
def test_nothing_is_left_of_a_thread(Signal):
    signal = Signal()
    signal.connect(nothing)
    before = open_files()
    in_new_thread(lambda: [signal.send(Sender) for _ in range(3)])
    assert open_files() == before


@pytest.mark.parametrize("references", [1, 2, 3])
@pytest.mark.parametrize("does", [nothing, waits])
def test_loop_that_was_kept_is_closed(assert_same, does, references):
    """However many are counted, and also if it was closed in a thread."""

    def scenario(Signal):
        signal = Signal()
        kept = []

        async def receiver(**kwargs):
            kept.extend([asyncio.get_running_loop()] * references)
            await does()

        signal.connect(receiver)
        signal.send(Sender)
        signal.send(Sender)
        return {loop.is_closed() for loop in kept}, kept[0] is kept[-1]

    assert assert_same(scenario) == ({True}, False)


def test_executor_that_a_receiver_gives_its_loop(assert_same):
    """It's shut down with the loop."""

    def scenario(Signal):
        signal = Signal()
        executor = ThreadPoolExecutor()

        async def receiver(**kwargs):
            asyncio.get_running_loop().set_default_executor(executor)

        signal.connect(receiver)
        signal.send(Sender)
        return executor.submit(int)

    assert assert_same(scenario)[0] is RuntimeError


def test_what_a_receiver_sets_in_its_loop(assert_same):
    """The next send finds a loop as it is made."""

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
                    hasattr(loop, "mine"),
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
            lambda loop: setattr(loop, "mine", 1),
            lambda loop: None,
        ]
        signal.connect(receiver)
        for _ in changes:
            signal.send(Sender)
        return seen

    seen = assert_same(scenario)
    assert seen[-1] == seen[0]


def test_synchronous_code_after_a_send(assert_same):
    """What a send leaves in its thread isn't taken for a loop that runs."""

    def scenario(Signal):
        signal = Signal()
        signal.connect(calls)
        home = threading.get_ident()

        async def elsewhere():
            return await sync_to_async(threading.get_ident)()

        def act():
            answers = []
            for _ in range(3):
                answers.append([answer == home for _, answer in signal.send(Sender)])
                answers.append(async_to_sync(elsewhere)() == threading.get_ident())
            return answers

        return act(), len(in_new_thread(act))

    assert assert_same(scenario) == ([[True], True] * 3, 6)


def test_leaving_work_for_later(Signal):
    """What is submitted and not waited for is done here, or not at all."""
    signal = Signal()
    done = []

    async def receiver(**kwargs):
        bridge = sync_to_async(lambda: done.append(threading.get_ident()))
        asyncio.get_running_loop().kept = asyncio.ensure_future(bridge())
        for _ in range(3):
            await asyncio.sleep(0)

    signal.connect(receiver)
    for _ in range(3):
        signal.send(Sender)
    assert set(done) <= {threading.get_ident()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_fork(assert_same):
    """A child works at once, and takes nothing from its parent's loop."""

    def scenario(Signal):
        signal = Signal()
        signal.connect(nothing)
        signal.connect(calls)
        signal.connect(waits)

        def send():
            return [answer for _, answer in signal.send(Sender)]

        home = threading.get_ident()
        expected = ["nothing", home, "waits"]
        signal.disconnect(waits)
        answers = [send() == expected[:2]]
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signals.alarm(60)
                right = send() == expected[:2]
                signal.connect(waits)
                status = 0 if right and send() == expected == send() else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        answers += [os.waitstatus_to_exitcode(status), send() == expected[:2]]
        signal.connect(is_woken)
        answers.append(send() == [*expected[:2], "woken"])
        signal.disconnect(is_woken)
        signal.connect(waits)
        return [*answers, send() == expected]

    assert assert_same(scenario) == [True, 0, True, True, True]


def test_shutdown(run_python):
    """Not a word, whatever a thread is doing."""
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
