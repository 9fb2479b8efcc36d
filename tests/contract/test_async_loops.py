"""Event loops of other classes, and loops that programs change."""

from __future__ import annotations

import asyncio
import gc

import pytest
from asgiref.sync import sync_to_async

from altdispatch.releases import SYNC_RECEIVERS_FIRST


class Sender:
    pass


async def waits(**kwargs):
    await asyncio.sleep(0)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_receiver_that_stops_the_loop(assert_same, waits, late):
    def scenario(Signal):
        signal = Signal()
        notes = []

        async def receiver(**kwargs):
            try:
                if late:
                    await asyncio.sleep(0.001)
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


@pytest.mark.parametrize(
    "change", ["debug", "factory", "eager factory", "subclass", "class of tasks"]
)
def test_other_loops_and_tasks(assert_same, change, monkeypatch):
    class OtherTask(asyncio.Task):
        pass

    if change == "class of tasks":
        monkeypatch.setattr(asyncio.tasks, "Task", OtherTask)

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


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_loop_that_rejects_a_task(assert_same):
    """The sender gets the error, as there is no task for it."""

    def scenario(Signal):
        signal = Signal()
        signal.connect(waits)

        class Loop(asyncio.SelectorEventLoop):
            rejects = False

            def call_soon(self, *args, **kwargs):
                if self.rejects:
                    self.rejects = False
                    raise KeyboardInterrupt
                return super().call_soon(*args, **kwargs)

        async def main():
            try:
                raise ValueError
            except ValueError:
                # While an error is handled, tasks are started by the loop.
                asyncio.get_running_loop().rejects = True
                try:
                    return await signal.asend(Sender)
                except KeyboardInterrupt:
                    return "rejected"

        with asyncio.Runner(loop_factory=Loop) as runner:
            outcome = runner.run(main())
        gc.collect()  # Coroutines that were never awaited warn now.
        return outcome

    assert assert_same(scenario) == "rejected"


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_sender_that_is_not_a_task(assert_same):
    def scenario(Signal):
        signal = Signal()
        signal.connect(waits)

        def drive():
            coroutine = signal.asend(Sender)
            try:
                return asyncio.isfuture(coroutine.send(None))
            except Exception as error:
                return type(error)
            finally:
                coroutine.close()

        async def main():
            driven = asyncio.Future()
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: driven.set_result(drive()))
            return await driven

        outcome = asyncio.run(main())
        gc.collect()  # Coroutines that were never awaited warn now.
        return outcome

    assert assert_same(scenario) in (True, RuntimeError)


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
            return [response for _, response in await signal.asend(Sender)]

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            responses = runner.run(main())
        if not SYNC_RECEIVERS_FIRST:
            notes.sort(key=repr)
        return responses, notes

    assert assert_same(scenario)[0] == [None, None, True]


def test_task_factory_set_by_a_receiver(assert_same):
    """The factory stays, as programs instrument tasks this way."""

    def scenario(Signal):
        created = []

        def factory(loop, coroutine, **kwargs):
            created.append(coroutine.__name__)
            return asyncio.Task(coroutine, loop=loop, **kwargs)

        async def instruments(**kwargs):
            asyncio.get_running_loop().set_task_factory(factory)
            await asyncio.sleep(0)

        async def job():
            pass

        async def main():
            await signal.asend(Sender)
            await asyncio.create_task(job())

        signal = Signal()
        for each in (waits, instruments):
            signal.connect(each)
        asyncio.run(main())
        return created

    assert assert_same(scenario)[0] == "job"


class CustomGroup(asyncio.TaskGroup):
    pass


@pytest.mark.skipif(not SYNC_RECEIVERS_FIRST, reason="Django uses no task group")
@pytest.mark.parametrize(
    "patched", ["loop", "class of loops", "method of groups", "group"]
)
def test_patched_creation_of_tasks(assert_same, patched, monkeypatch):
    """Wrappers of agents are called for each receiver, with its coroutine."""

    def scenario(Signal):
        created = []

        def wrap(target):
            original = target.create_task

            def create_task(*args, **kwargs):
                created.extend(type(arg).__name__ for arg in args)
                return original(*args, **kwargs)

            context.setattr(target, "create_task", create_task)

        async def quick(**kwargs):
            pass

        async def main():
            if patched == "loop":
                wrap(asyncio.get_running_loop())
            elif patched == "class of loops":
                wrap(asyncio.BaseEventLoop)
            elif patched == "method of groups":
                wrap(asyncio.TaskGroup)
            else:
                context.setattr(asyncio, "TaskGroup", CustomGroup)
                wrap(CustomGroup)
            await signal.asend(Sender)
            return created

        signal = Signal()
        for each in (quick, waits):
            signal.connect(each)
        with monkeypatch.context() as context:
            return asyncio.run(main())

    assert assert_same(scenario).count("coroutine") >= 2


def test_debug_mode_turned_on_later(assert_same, asyncio_debug):
    def scenario(Signal):
        signal = Signal()

        async def receiver(**kwargs):
            return asyncio.get_running_loop().get_debug()

        signal.connect(receiver)
        modes = []
        for on in (False, True, False):
            asyncio_debug(on)
            modes += [mode for _, mode in signal.send(Sender)]
        return modes

    assert assert_same(scenario) == [False, True, False]


def test_patched_asyncio_run(assert_same, monkeypatch):
    """Packages that nest event loops patch it."""
    original = asyncio.run
    runs = []

    def run(*args, **kwargs):
        runs.append("run")
        return original(*args, **kwargs)

    monkeypatch.setattr(asyncio, "run", run)

    def scenario(Signal):
        signal = Signal()

        async def receiver(**kwargs):
            return len(runs)

        signal.connect(receiver)
        runs.clear()
        return [answer for _ in range(2) for _, answer in signal.send(Sender)]

    assert assert_same(scenario) == [1, 2]


@pytest.mark.skipif(
    not hasattr(asyncio, "set_event_loop_policy"), reason="Python has no policies"
)
# Python 3.14 deprecated policies.
@pytest.mark.filterwarnings("ignore:.*[pP]olicy.* is deprecated:DeprecationWarning")
def test_event_loop_policy(assert_same):
    """Synchronous sends create loops with the program's policy."""

    def scenario(Signal):
        signal = Signal()
        classes = []

        class Loop(asyncio.SelectorEventLoop):
            pass

        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self):
                return Loop()

        async def receiver(**kwargs):
            classes.append(type(asyncio.get_running_loop()).__name__)

        signal.connect(receiver)
        asyncio.set_event_loop_policy(Policy())
        try:
            signal.send(Sender)
        finally:
            asyncio.set_event_loop_policy(None)
        signal.send(Sender)
        return classes

    assert assert_same(scenario)[0] == "Loop"
