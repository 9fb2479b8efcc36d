"""Run asynchronous receivers at the same time, as ``asend()`` does.

Django makes a task for each receiver and waits for them in a task group, which takes
three turns of the event loop even if no receiver waits for anything. Here, each task
makes its receiver's first step at once. A receiver that returns in it needs neither the
group nor the loop. The others are put into a task group, one turn ahead of Django's.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from types import CoroutineType, coroutine
from typing import Any

import django.dispatch.dispatcher

#: Django's own dispatcher.
stock: Any = django.dispatch.dispatcher

Task: Any = asyncio.Task

# From Django 6.1. Before, each receiver has a context of its own.
_run_parallel: Any = getattr(stock, "_run_parallel", None)

#: Whether tasks can make their first step where they are made (Python 3.12), and
#: receivers share the context in which they are to make it.
CAN_START_EARLY = hasattr(asyncio, "eager_task_factory") and _run_parallel is not None

# A first step in which a receiver sends nests on the stack. Tasks in the loop don't.
MOST_NESTED = 10


class _FirstSteps(threading.local):
    """What is known of the first steps that this thread is making."""

    nested = 0
    generators = 0


_first_steps = _FirstSteps()


def run_by_django(awaitables: Sequence[Awaitable[Any]]) -> Awaitable[list[Any]]:
    """Do what ``run_together()`` does, but as Django does it."""
    if _run_parallel is None:
        return asyncio.gather(*awaitables)
    return stock._run_parallel(*awaitables)  # type: ignore[no-any-return]


async def _run_early(awaitables: Sequence[Awaitable[Any]]) -> list[Any]:
    loop = asyncio.get_running_loop()
    sender = asyncio.current_task()
    if sender is None or not _can_start_early(loop, sender):
        return await run_by_django(awaitables)
    if not awaitables:
        return []
    context = contextvars.copy_context()
    results: list[Any] = []
    fatal: list[BaseException] = []
    arguments = awaitables, results, fatal, loop, context
    task = start(*arguments, None)
    if not results:
        return await run_by_django(awaitables)
    try:
        if task is not None:
            tasks: list[asyncio.Task[Any]] = []
            group = _run_in_group(tasks, task, *arguments)
            await _abort_at_once(group, tasks, fatal)
        elif sender.cancelling():
            # By a receiver: Django's sender notices where it waits for the group.
            await asyncio.sleep(0)
        return results
    finally:
        stock._restore_context(context=context)


#: Awaits all of ``awaitables`` at the same time and returns their results.
run_together = _run_early if CAN_START_EARLY else run_by_django


def _can_start_early(
    loop: asyncio.AbstractEventLoop, sender: asyncio.Task[Any]
) -> bool:
    """Return whether a program could only tell by the time of the first steps."""
    return (
        stock._run_parallel is _run_parallel
        and asyncio.tasks.Task is Task
        # The loop makes such tasks, and would ask a task factory for them.
        and (
            type(loop).create_task is asyncio.BaseEventLoop.create_task
            or type(loop).__module__ == "uvloop"
        )
        and loop.get_task_factory() is None
        and not loop.get_debug()
        # Receivers would see the error that the sender handles.
        and sys.exception() is None
        # A sender that is being cancelled cancels its receivers.
        and not sender.cancelling()
    )


def start(
    awaitables: Sequence[Awaitable[Any]],
    results: list[Any],
    fatal: list[BaseException],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    join: Callable[[asyncio.Task[Any]], None] | None,
) -> asyncio.Task[Any] | None:
    """Make a task, and its first step, for each awaitable that has no result yet.

    Call ``join`` with those that the sender has to wait for, before the next one starts,
    as the loop goes on in that order. Without it, return the first such task. ``fatal``
    gets an error that ends the loop. With Django, nothing else starts after it.

    Make none if a receiver has returned what isn't a coroutine: a future, say, whose
    task the loop has to start before it starts the others.
    """
    if (
        _first_steps.nested == MOST_NESTED
        or set(map(type, awaitables)) != {CoroutineType}
    ):
        return None
    _count_generators()
    _first_steps.nested += 1
    try:
        while len(results) < len(awaitables) and not fatal:
            generators = _first_steps.generators
            coroutine = run(awaitables[len(results)], results, len(results))
            results.append(None)
            task = Task.__new__(Task)
            try:
                Task.__init__(
                    task, coroutine, loop=loop, context=context, eager_start=True
                )
            except (KeyboardInterrupt, SystemExit) as error:
                fatal.append(error)
            if (
                not task.done()
                # One that is left open is closed before Django's sender goes on.
                or _first_steps.generators != generators
                or (not task.cancelled() and task.exception() is not None)
            ):
                if join is None:
                    return task  # type: ignore[no-any-return]
                join(task)
    finally:
        _first_steps.nested -= 1
    return None


def _count_generators() -> None:
    """Have this thread count the asynchronous generators that it begins.

    That is for as long as the loop runs, which sets the hook back.
    """
    hook: Any = sys.get_asyncgen_hooks().firstiter
    if type(hook) is not partial or hook.func is not _count_generator:
        sys.set_asyncgen_hooks(firstiter=partial(_count_generator, hook))


def _count_generator(hook: Any, generator: Any) -> None:
    _first_steps.generators += 1
    if hook is not None:
        hook(generator)


async def run(awaitable: Awaitable[Any], results: list[Any], position: int) -> None:
    """Note the result of a receiver, also if its task ends up as cancelled."""
    results[position] = await awaitable


# Programs can read it.
run.__qualname__ = RUN = "_run_parallel.<locals>.run"


async def _run_in_group(
    tasks: list[asyncio.Task[Any]],
    task: asyncio.Task[Any],
    awaitables: Sequence[Awaitable[Any]],
    results: list[Any],
    fatal: list[BaseException],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
) -> None:
    """Start what ``start()`` hasn't, and wait for all from ``task`` on.

    ``tasks`` gets those that are waited for.
    """
    try:
        async with asyncio.TaskGroup() as group:
            _join(group, loop, tasks, task)
            if len(results) < len(awaitables):
                join = partial(_join, group, loop, tasks)
                start(awaitables, results, fatal, loop, context, join)
            # Those that an error keeps from starting. They are to start by the loop.
            for position in range(len(results), len(awaitables)):
                results.append(None)
                coroutine = run(awaitables[position], results, position)
                group.create_task(coroutine, context=context)
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0]  # noqa: B904 - as in Django
        raise


def _join(
    group: asyncio.TaskGroup,
    loop: asyncio.AbstractEventLoop,
    tasks: list[asyncio.Task[Any]],
    task: asyncio.Task[Any],
) -> None:
    """Have a task group wait for a task that it has not made.

    It does so for what a task factory returns.
    """
    tasks.append(task)
    name = task.get_name()
    member: Any = _Outcome(loop=loop) if task.done() else task
    loop.set_task_factory(give_member)
    try:
        group.create_task(member)
    finally:
        loop.set_task_factory(None)
    # Python 3.13 has renamed it.
    member.set_name(name)
    if member is not task:
        error = None if task.cancelled() else task.exception()
        if error is None:
            member.set_result(None)
        else:
            member.set_exception(error)


class _Outcome(asyncio.Future[None]):
    """Stands in a group for a task that is done: the group is told in the next turn.

    Some releases of Python would have it act on the task at once.
    """

    def set_name(self, name: object) -> None:
        pass


def give_member(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> Any:
    """Return what is no coroutine but a future already, or make a task."""
    if isinstance(coroutine, asyncio.Future):
        return coroutine
    return Task(coroutine, loop=loop, **options)


@coroutine
def _abort_at_once(
    group: Coroutine[Any, Any, None],
    tasks: list[asyncio.Task[Any]],
    fatal: list[BaseException],
) -> Iterator[Any]:
    """Await ``_run_in_group()``, and throw a cancellation of the sender into it at once.

    With Django it takes a turn to reach the group, but receivers are one turn ahead
    here. If it comes from one of them, so is that.
    """
    waiter = _Waiter(group, tasks, fatal)
    try:
        yield waiter
        if not waiter.is_done():
            # The loop was left and runs again.
            yield waiter
    except asyncio.CancelledError as error:
        waiter.throw(error)
        if waiter.future is not None:
            waiter.future._asyncio_future_blocking = True
            yield waiter.future
    if waiter.error is not None:
        try:
            raise waiter.error
        finally:
            del waiter
    if waiter.future is not None:
        yield from group


class _Waiter:
    """The future that the sender's task waits for: the one that the group waits for.

    Attributes:

        future
            What the group waits for, None once it has ended.
        error
            What it has ended with.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_awaited",
        "_fatal",
        "_group",
        "_tasks",
        "add_done_callback",
        "error",
        "future",
        "get_loop",
    )

    def __init__(
        self,
        group: Coroutine[Any, Any, None],
        tasks: list[asyncio.Task[Any]],
        fatal: list[BaseException],
    ) -> None:
        self._group = group
        self._tasks = tasks
        self._fatal = fatal
        self.error: BaseException | None = None
        self.future = self._awaited = group.send(None)
        self.future._asyncio_future_blocking = False
        self._asyncio_future_blocking = True
        self.get_loop = self.future.get_loop
        self.add_done_callback = (
            self._leave_loop if fatal else self.future.add_done_callback
        )

    def throw(self, error: BaseException) -> None:
        self.future: Any = None
        try:
            self.future = self._group.throw(error)
            self.future._asyncio_future_blocking = False
        except StopIteration:
            pass
        except BaseException as raised:
            self.error = raised

    def cancel(self, msg: Any = None) -> bool:
        if self._awaited.done():
            return False
        loop = self.get_loop()
        if asyncio.current_task(loop) in self._tasks or not loop.is_running():
            return self._awaited.cancel(msg)  # type: ignore[no-any-return]
        self.throw(
            asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        )
        if self.future is None:
            self._wake_up()
        else:
            self.future.add_done_callback(self._wake_up)
        return True

    def is_done(self) -> bool:
        return self._awaited.done()  # type: ignore[no-any-return]

    def result(self) -> None:
        """Have the task go on."""

    def _wake_up(self, future: Any = None) -> None:
        if not self._awaited.done():
            self._awaited.set_result(None)

    def _leave_loop(self, wake_up: Any, *, context: Any) -> None:
        """Raise what with Django comes out of the loop while the sender waits."""
        self._asyncio_future_blocking = True
        self.add_done_callback = self.future.add_done_callback
        self.get_loop().call_soon(wake_up, self, context=context)
        raise self._fatal.pop()
