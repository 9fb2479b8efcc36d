"""Generated asynchronous receivers, on Django's signals and on ours.

A receiver is a program: a list of steps. What it notes of each is compared, in the
order in which all of them note it.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import signal as signals
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import asgiref.local
import django.dispatch
import pytest
from asgiref.sync import markcoroutinefunction, sync_to_async
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from altdispatch import together
from altdispatch.releases import SYNC_RECEIVERS_FIRST

from ..conftest import frozen_heap
from ..implementations import IMPLEMENTATIONS
from .interrupts import interrupt_main_thread

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
local = asgiref.local.Local()


class Sender:
    pass


class World:
    """What the receivers of one send note, and share."""

    def __init__(self, signal_class: type, caching: bool, how: str) -> None:
        self.signal_class = signal_class
        self.caching = caching
        self.how = how
        self.thread = threading.current_thread()
        self.notes: list[Any] = []
        # Of what is ended with the loop, in the order of a set: by chance.
        self.endings: list[Any] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.sender: asyncio.Task[Any] | None = None
        self.is_interrupted = False
        self.is_over = False
        self.tasks: set[asyncio.Task[Any]] = set()
        # Those that receivers of this asend_robust() create in their first step.
        self.created: set[Any] = set()
        self.keep: list[Any] = []

    def note(self, *what: Any) -> None:
        (self.endings if self.is_over else self.notes).append(what)

    def is_at_home(self) -> bool:
        return threading.current_thread() is self.thread

    def find_sender(self) -> asyncio.Task[Any] | None:
        """Return the task that waits for the receivers.

        None if to cancel it is a known difference, as it is in a first step.
        """
        if asyncio.current_task() in self.created:
            return None
        # For a synchronous send, asgiref runs it on a loop where it is the first task.
        return self.sender or min(
            asyncio.all_tasks(),
            key=lambda task: int(task.get_name().removeprefix("Task-")),
        )

    def signal(self, *receivers: Callable[..., Any]) -> Any:
        signal = self.signal_class(use_caching=self.caching)
        for receiver in receivers:
            signal.connect(receiver, weak=False)
        return signal


Step = Callable[[World, str], Awaitable[Any]]


async def turn(world: World, name: str) -> None:
    await asyncio.sleep(0)


async def two_turns(world: World, name: str) -> None:
    await asyncio.sleep(0)
    world.note(name, "between")
    await asyncio.sleep(0)


async def fail(world: World, name: str) -> None:
    raise ValueError(name)


async def fail_with_a_cause(world: World, name: str) -> None:
    try:
        raise KeyError(name)
    except KeyError as error:
        raise ValueError(name) from error


async def be_cancelled(world: World, name: str) -> None:
    raise asyncio.CancelledError


async def cancel_itself(world: World, name: str) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        world.note(name, "is cancelled", task.cancelling())
        raise


async def cancel_itself_and_go_on(world: World, name: str) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel(name)


async def cancel_the_sender(world: World, name: str) -> None:
    await asyncio.sleep(0)
    sender = world.find_sender()
    if sender is not None:
        sender.cancel(name)


async def interrupt(world: World, name: str) -> None:
    """As by Ctrl-C, for which asyncio.run() cancels its main task.

    A synchronous send raises KeyboardInterrupt, once the receivers have ended. It is
    interrupted only once: on PyPy, a second signal could be handled after the send.
    """
    await asyncio.sleep(0)
    is_sync = world.sender is None
    if world.find_sender() is None or (is_sync and world.is_interrupted):
        return
    world.is_interrupted = True
    interrupt_main_thread(signals.SIGINT)


async def end_the_process(world: World, name: str) -> None:
    # The tasks that are left are cancelled in the order of a set.
    world.is_over = True
    raise SystemExit(name)


async def raise_an_interrupt(world: World, name: str) -> None:
    world.is_over = True
    raise KeyboardInterrupt(name)


async def resist(world: World, name: str) -> None:
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    except asyncio.CancelledError as error:
        world.note(name, "is cancelled", str(error))
        await asyncio.sleep(0)
        world.note(name, "has cleaned up")
        raise


async def drop_a_generator(world: World, name: str) -> None:
    async def generate() -> Any:
        try:
            yield 1
            yield 2
        finally:
            world.note(name, "dropped generator closed")

    async for _ in generate():
        break


async def set_variable(world: World, name: str) -> None:
    world.note(name, "finds", variable.get("nothing"), getattr(local, "value", None))
    variable.set(name)
    local.value = name


async def ask_for_the_task(world: World, name: str) -> None:
    task = asyncio.current_task()
    assert task is not None
    is_new = task not in world.tasks
    world.tasks.add(task)
    loop = asyncio.get_running_loop()
    world.note(
        name,
        is_new,
        task in asyncio.all_tasks(),
        task.done(),
        task.cancelling(),
        loop is asyncio.get_event_loop(),
        loop.is_running(),
        loop is task.get_loop(),
        sys.exc_info()[0],
    )


async def leave_a_task(world: World, name: str) -> None:
    async def left() -> None:
        try:
            for number in range(9):
                world.note(name, "left", number, variable.get("nothing"))
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            world.endings.append((name, "left is cancelled"))
            raise

    world.keep.append(asyncio.create_task(left()))


async def leave_a_failing_task(world: World, name: str) -> None:
    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError(name)

    world.keep.append(asyncio.create_task(left()))


async def leave_a_callback(world: World, name: str) -> None:
    asyncio.get_running_loop().call_soon(world.note, name, "called")


async def leave_a_timer(world: World, name: str) -> None:
    asyncio.get_running_loop().call_later(60, world.note, name, "never")


async def leave_a_generator(world: World, name: str) -> None:
    async def generate() -> Any:
        try:
            yield 1
            yield 2
        finally:
            world.endings.append((name, "generator closed"))

    generator = generate()
    world.keep.append(generator)
    await anext(generator)


async def wait_a_moment(world: World, name: str) -> None:
    await asyncio.sleep(0.001)


async def wait_with_a_timeout(world: World, name: str) -> None:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        world.note(name, "timeout")


async def gather(world: World, name: str) -> None:
    async def part(number: int) -> int:
        world.note(name, "part", number)
        await asyncio.sleep(0)
        return number

    world.note(name, await asyncio.gather(part(1), part(2)))


async def call_in_a_thread(world: World, name: str) -> None:
    world.note(name, "at home", await asyncio.to_thread(world.is_at_home))


async def call_synchronous_code(world: World, name: str) -> None:
    def synchronous() -> str:
        world.note(name, "called", world.is_at_home(), variable.get("nothing"))
        variable.set(f"{name} called")
        local.value = f"{name} called"
        return "called"

    world.note(name, await sync_to_async(synchronous)())
    world.note(name, variable.get("nothing"), getattr(local, "value", None))


async def call_failing_synchronous_code(world: World, name: str) -> None:
    def synchronous() -> None:
        raise LookupError(name)

    try:
        await sync_to_async(synchronous)()
    except LookupError as error:
        world.note(name, "caught", str(error))


async def send_from_synchronous_code(world: World, name: str) -> None:
    async def inner(**kwargs: Any) -> str:
        world.note(name, "inner", asyncio.get_running_loop() is world.loop)
        await asyncio.sleep(0)
        world.note(name, "inner", await sync_to_async(world.is_at_home)())
        return name

    world.loop = asyncio.get_running_loop()
    signal = world.signal(inner)
    answers = await sync_to_async(signal.send)(Sender)
    world.note(name, [answer for _, answer in answers])


async def send_on(world: World, name: str) -> None:
    async def quick(**kwargs: Any) -> str:
        world.note(name, "quick")
        return name

    async def slow(**kwargs: Any) -> str:
        world.note(name, "slow")
        await asyncio.sleep(0)
        world.note(name, "slow again")
        return name

    signal = world.signal(quick, slow)
    world.note(name, [answer for _, answer in await signal.asend(Sender)])


async def send_wrongly(world: World, name: str) -> None:
    async def inner(**kwargs: Any) -> None:
        pass

    try:
        world.signal(inner).send(Sender)
    except RuntimeError as error:
        world.note(name, str(error))


#: Steps that several receivers make in an order that is not left to chance.
ORDERED: list[Step] = [
    turn,
    turn,
    two_turns,
    fail,
    fail_with_a_cause,
    be_cancelled,
    cancel_itself,
    cancel_itself_and_go_on,
    cancel_the_sender,
    resist,
    resist,
    drop_a_generator,
    set_variable,
    set_variable,
    ask_for_the_task,
    leave_a_task,
    leave_a_failing_task,
    leave_a_callback,
    leave_a_timer,
    leave_a_generator,
    gather,
    send_wrongly,
]

#: Those that are only in order for each of them.
UNORDERED: list[Step] = [
    turn,
    two_turns,
    ask_for_the_task,
    gather,
    wait_a_moment,
    wait_with_a_timeout,
    call_in_a_thread,
    send_on,
]

#: Those that asgiref refuses, from two receivers of an asend() at a time.
BRIDGING: list[Step] = [call_failing_synchronous_code, send_from_synchronous_code]

#: Those that are so if there is but one.
SINGLE: list[Step] = [
    *UNORDERED,
    *BRIDGING,
    fail,
    be_cancelled,
    cancel_itself,
    set_variable,
    leave_a_generator,
    call_synchronous_code,
    call_synchronous_code,
]

#: Those that end the loop, and some to be ended.
ENDING: list[Step] = [
    turn,
    two_turns,
    resist,
    end_the_process,
    raise_an_interrupt,
    interrupt,
    set_variable,
]

#: By name: the steps, and the most receivers.
KINDS = {
    "ordered": (ORDERED, 4),
    "unordered": (UNORDERED, 4),
    "single": (SINGLE, 1),
    "ending": (ENDING, 3),
}


class Other:
    """Neither a coroutine nor a future."""

    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Any:
        return self.coroutine.__await__()


#: What receivers make of their coroutines.
RETURNS: dict[str, Callable[[Any], Any]] = {
    "coroutine": lambda coroutine: coroutine,
    "future": lambda coroutine: asyncio.ensure_future(coroutine),
    "awaitable": Other,
}


def make_receiver(
    world: World, name: str, steps: list[Step], returns: str
) -> Callable[..., Any]:
    async def receiver(**kwargs: Any) -> str:
        for step in steps:
            world.note(name, step.__name__)
            await step(world, name)
        world.note(name, "ends")
        return name

    def returning(**kwargs: Any) -> Any:
        returned = RETURNS[returns](receiver(**kwargs))
        if world.how == "asend_robust" and returns == "future":
            world.created.add(returned)
        return returned

    return receiver if returns == "coroutine" else markcoroutinefunction(returning)


def make_synchronous_receiver(world: World) -> Callable[..., Any]:
    def receiver(**kwargs: Any) -> str:
        world.note("synchronous", variable.get("nothing"))
        variable.set("synchronous")
        return "synchronous"

    return receiver


def describe(error: BaseException | None) -> Any:
    """Return what an error is, and what it came from."""
    if error is None:
        return None
    inner = getattr(error, "exceptions", ())
    return (
        type(error),
        str(error),
        [describe(one) for one in inner],
        describe(error.__cause__),
        error.__suppress_context__,
    )


Program = tuple[list[Step], str]


def outcome(world: World, programs: list[Program], mixed: bool) -> Any:
    """Send, and return what came out and what was noted."""
    signal = world.signal(
        *(
            make_receiver(world, f"receiver {number}", *program)
            for number, program in enumerate(programs)
        )
    )
    if mixed:
        signal.connect(make_synchronous_receiver(world), weak=False)
    send = getattr(signal, world.how)

    def see(answers: list[tuple[Any, Any]]) -> Any:
        return [
            describe(answer) if isinstance(answer, BaseException) else answer
            for _, answer in answers
        ]

    async def wait() -> Any:
        world.sender = asyncio.current_task()
        variable.set("sender")
        local.value = "sender"
        try:
            answers = see(await send(Sender, key=1))
        except BaseException as error:
            answers = describe(error)
        # What comes of what they left is not to depend on when the sender goes on.
        cancelled = []
        for _ in range(20):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                cancelled.append(str(error))
        task = asyncio.current_task()
        assert task is not None
        return answers, variable.get(), local.value, task.cancelling(), cancelled

    def call() -> Any:
        variable.set("sender")
        local.value = "sender"
        try:
            answers = see(send(Sender, key=1))
        except BaseException as error:
            answers = describe(error)
        return answers, variable.get(), local.value

    context = contextvars.Context()
    try:
        if world.how.startswith("a"):
            return context.run(asyncio.run, wait())
        return context.run(call)
    except (KeyboardInterrupt, SystemExit) as error:
        return describe(error)


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # Of a task, not where in memory it is.
        self.messages.append(f"{record.getMessage().split('<')[0]} {record.exc_info}")


def seen(
    signal_class: type,
    caching: bool,
    how: str,
    programs: list[Program],
    mixed: bool,
) -> tuple[Any, list[Any], list[Any], int]:
    world = World(signal_class, caching, how)
    records = Records()
    loggers = [logging.getLogger("asyncio"), logging.getLogger("django.dispatch")]
    for logger in loggers:
        logger.addHandler(records)
        logger.propagate = False
    # Shells ignore it in what they run in the background.
    handler = signals.signal(signals.SIGINT, signals.default_int_handler)
    try:
        result = outcome(world, programs, mixed)
    finally:
        signals.signal(signals.SIGINT, handler)
        if world.is_over:
            # Errors that nobody asks for are logged when their tasks go.
            gc.collect()
        for logger in loggers:
            logger.removeHandler(records)
            logger.propagate = True
    return result, world.notes, sorted(world.endings), len(records.messages)


@pytest.mark.monitored
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["send", "asend", "send_robust", "asend_robust"])
def test_programs(
    implementation: str,
    asyncio_debug: Callable[[bool], None],
    how: str,
    kind: str,
    debug: bool,
) -> None:
    asyncio_debug(debug)
    ours = IMPLEMENTATIONS[implementation].Signal
    steps, most = KINDS[kind]
    if kind == "unordered" and not how.startswith("a"):
        steps = steps + BRIDGING
    returned = st.sampled_from(["coroutine", "coroutine", "coroutine", *RETURNS])
    fuzzing = "ALTDISPATCH_FUZZ" in os.environ  # How many times, by `make fuzz`.

    @settings(
        max_examples=int(os.environ["ALTDISPATCH_FUZZ"]) if fuzzing else 40,
        deadline=None,
        derandomize=not fuzzing,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        programs=st.lists(
            st.tuples(st.lists(st.sampled_from(steps), max_size=4), returned),
            min_size=1,
            max_size=most,
        ),
        caching=st.booleans(),
        mixed=st.booleans(),
    )
    def run(programs: list[Program], caching: bool, mixed: bool) -> None:
        # Up to 6.0 the synchronous receivers run meanwhile.
        mixed = mixed and SYNC_RECEIVERS_FIRST
        # Not around all of this: hypothesis looks for references to its own objects.
        with frozen_heap():
            expected = seen(django.dispatch.Signal, caching, how, programs, mixed)
            # Otherwise, Django's function would run most programs, as their receivers
            # have the same code and wait.
            together._left_to_django.clear()
            result = seen(ours, caching, how, programs, mixed)
        if threading.active_count() > 100:
            # Some end only when the garbage collector finds their executor.
            gc.collect()
        if kind == "unordered":
            expected[1].sort(key=lambda note: note[0])
            result[1].sort(key=lambda note: note[0])
        assert result == expected

    run()
    # Here, where the warnings of coroutines that were never awaited are expected.
    gc.collect()
