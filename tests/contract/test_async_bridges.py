"""From synchronous to asynchronous code: threads, loops, and what is left of them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import signal as signals
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import asgiref.local
import asgiref.sync
import pytest
from asgiref.sync import async_to_sync, sync_to_async

from altdispatch import bridges
from altdispatch.releases import SHARES_CONTEXT, SYNC_RECEIVERS_FIRST


class Sender:
    pass


local = asgiref.local.Local()


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


def test_a_loop_is_used_again(Signal):
    """As long as a receiver keeps nothing of it."""
    if not bridges.CAN_RUN_HERE:
        pytest.skip("asgiref's loop is used")
    signal = Signal()
    loops = []
    keeps = False

    async def receiver(**kwargs):
        loop = asyncio.get_running_loop()
        loops.append(loop if keeps else id(loop))

    signal.connect(receiver)

    def send():
        signal.send(Sender)
        signal.send(Sender)

    in_new_thread(send)
    assert loops[0] == loops[1]
    loops.clear()
    keeps = True
    in_new_thread(send)
    assert loops[0] is not loops[1]
    assert loops[0].is_closed()
    assert loops[1].is_closed()


def test_loop_that_was_kept_is_closed(assert_same):
    def scenario(Signal):
        signal = Signal()
        kept = []

        async def receiver(**kwargs):
            kept.append(asyncio.get_running_loop())

        signal.connect(receiver)
        signal.send(Sender)
        signal.send(Sender)
        return [loop.is_closed() for loop in kept], kept[0] is kept[1]

    assert assert_same(scenario) == ([True, True], False)


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


def test_local_data(assert_same):
    """asgiref's, which Django keeps languages and URL prefixes in."""

    def scenario(Signal):
        signal = Signal()
        notes = []

        async def first(**kwargs):
            notes.append(("first", getattr(local, "value", None)))
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
    assert after == ("sender's", "changed" if SHARES_CONTEXT else None)


def test_while_an_error_is_handled(assert_same):
    """Receivers don't see it, nor do their errors come from it."""

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
def test_errors_that_end_the_loop(assert_same, how, error, late):
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

        for each in (before, receiver, after):
            signal.connect(each)

        async def main():
            try:
                await signal.asend(Sender)
            except BaseException as raised:
                notes.append(type(raised))
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
        gc.collect()  # What was never awaited warns now.
        return notes

    assert (error, "this") in assert_same(scenario)


@pytest.mark.parametrize("waits", [False, True])
def test_receiver_that_stops_the_loop(assert_same, waits):
    def scenario(Signal):
        signal = Signal()
        notes = []

        async def receiver(**kwargs):
            try:
                asyncio.get_running_loop().stop()
                if waits:
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                notes.append("cancelled")
                raise

        signal.connect(receiver)
        for _ in range(2):
            try:
                signal.send(Sender)
            except RuntimeError as error:
                notes.append(str(error))
        return notes

    *_, error = assert_same(scenario)
    assert error == "Event loop stopped before Future completed."


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


def test_sender_that_was_cancelled(assert_same):
    """What it sends before it waits is cancelled before its second step."""

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
    assert len(notes) == (4 if SHARES_CONTEXT else 3)


@pytest.mark.parametrize("nested", [False, True, "swallows"])
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
                if nested == "swallows":
                    return
                raise

        def receiver(**kwargs):
            if nested:
                try:
                    async_to_sync(inner)()
                except asyncio.CancelledError:
                    notes.append("receiver is cancelled")
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


@pytest.mark.parametrize("change", ["debug", "factory", "eager factory", "subclass"])
def test_loops_of_other_kinds(assert_same, change):
    def scenario(Signal):
        signal = Signal()
        notes = []

        async def receiver(**kwargs):
            notes.append("starts")
            await asyncio.sleep(0)
            notes.append("ends")

        async def quick(**kwargs):
            notes.append(type(asyncio.current_task()).__name__)

        signal.connect(receiver)
        signal.connect(quick)

        class Task(asyncio.Task):
            pass

        class Loop(asyncio.SelectorEventLoop):
            def create_task(self, coroutine, **kwargs):
                notes.append("create_task")
                return super().create_task(coroutine, **kwargs)

        async def main():
            loop = asyncio.get_running_loop()
            if change == "debug":
                loop.set_debug(True)
            elif change == "factory":
                loop.set_task_factory(lambda loop, c, **kw: Task(c, loop=loop, **kw))
            elif change == "eager factory":
                loop.set_task_factory(asyncio.eager_task_factory)
            other = asyncio.create_task(quick())
            await signal.asend(Sender)
            await other
            return notes

        if change == "subclass":
            with asyncio.Runner(loop_factory=Loop) as runner:
                return runner.run(main())
        return asyncio.run(main())

    if change == "eager factory" and not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("needs Python 3.12")
    assert "ends" in assert_same(scenario)


def test_uvloop(assert_same):
    uvloop = pytest.importorskip("uvloop")

    def scenario(Signal):
        signal = Signal()
        notes = []

        async def receiver(**kwargs):
            notes.append(type(asyncio.get_running_loop()).__module__)
            await asyncio.sleep(0)
            notes.append(await sync_to_async(int)())

        async def quick(**kwargs):
            notes.append("quick")
            return asyncio.current_task() is not None

        def synchronous(**kwargs):
            notes.append("synchronous")

        for each in (receiver, quick, synchronous):
            signal.connect(each)

        async def main():
            return [answer for _, answer in await signal.asend(Sender)]

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            answers = runner.run(main())
        if not SYNC_RECEIVERS_FIRST:
            notes.sort(key=repr)
        return answers, notes

    assert assert_same(scenario)[0] == [None, None, True]


def test_policy_of_a_program(assert_same):
    """Loops of another kind are made for its synchronous sends."""

    def scenario(Signal):
        signal = Signal()
        kinds = []

        class Loop(asyncio.SelectorEventLoop):
            pass

        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self):
                return Loop()

        async def receiver(**kwargs):
            kinds.append(type(asyncio.get_running_loop()).__name__)

        signal.connect(receiver)
        asyncio.set_event_loop_policy(Policy())
        try:
            signal.send(Sender)
        finally:
            asyncio.set_event_loop_policy(None)
        signal.send(Sender)
        return kinds

    assert assert_same(scenario)[0] == "Loop"


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


@pytest.mark.parametrize("kind", ["send", "asend"])
@pytest.mark.parametrize("known", [False, True])
def test_unknown_asgiref(assert_same, monkeypatch, kind, known):
    """It's left to do what it does; so is one that somebody has changed."""
    if not known:
        monkeypatch.setattr(bridges, "KNOWN_ASGIREF", False)
        monkeypatch.setattr(bridges, "CAN_RUN_HERE", False)
    used = []
    for name in ("AsyncToSync", "SyncToAsync"):
        bridge = getattr(asgiref.sync, name)

        def call(self, *args, original=bridge.__call__, name=name, **kwargs):
            used.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(bridge, "__call__", call)

    def scenario(Signal):
        signal = Signal()
        signal.connect(calls)
        signal.connect(lambda **kw: "synchronous", weak=False)
        used.clear()
        if kind == "send":
            answers = signal.send(Sender)
        else:
            answers = asyncio.run(signal.asend(Sender))
        return [type(answer) for _, answer in answers], sorted(used)

    assert assert_same(scenario)[1]


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
        signal.connect(waits)
        return [*answers, send() == expected]

    assert assert_same(scenario) == [True, 0, True, True]


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
