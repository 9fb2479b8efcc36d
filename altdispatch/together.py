"""Run asynchronous receivers at the same time, as ``asend()`` does.

Django makes a task for each receiver and waits for them in a task group. This takes
three turns of the event loop even if no receiver waits for anything. Here, each task
runs the first step of its receiver at once. A receiver that returns in its first step
needs neither the group nor the loop. The others are added to a task group, one turn of
the loop earlier than in Django.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from types import CoroutineType, FunctionType, MethodType, coroutine
from typing import Any

import django.dispatch.dispatcher

#: Django's own dispatcher, where programs may patch _run_parallel().
stock: Any = django.dispatch.dispatcher

Task: Any = asyncio.Task
# The functions that make tasks. If a program or an agent has patched one of them, the
# receivers are run by Django's function.
_TaskGroup: Any = asyncio.TaskGroup
_create_task_of_group: Any = asyncio.TaskGroup.create_task
_create_task_of_loop: Any = asyncio.BaseEventLoop.create_task

# New in Django 6.1. Before, each receiver had its own context.
_run_parallel: Any = getattr(stock, "_run_parallel", None)

#: Whether a task can run its first step when it is created (Python 3.12), and receivers
#: share the context for it (Django 6.1). Also whether the private names are there.
CAN_START_EARLY = (
    hasattr(asyncio, "eager_task_factory")
    and hasattr(asyncio.Future, "_asyncio_future_blocking")
    and _run_parallel is not None
    and hasattr(stock, "_restore_context")
)

# Sends in a first step nest on the stack, unlike those of tasks that the loop runs. At
# this depth, receivers are left to the loop.
MOST_NESTED = 10


class _FirstSteps(threading.local):
    # How many sends of this thread are running first steps, one inside the other, and
    # how many asynchronous generators have begun.
    nested = 0
    generators = 0


_first_steps = _FirstSteps()


# Starting receivers early only pays if they return in their first step. If one doesn't,
# Django's function is faster, and runs the next sends to these receivers. This dict has
# the number of such sends left, by the id() of the first receiver's code. If other code
# gets the same id, only the time differs.
_left_to_django: dict[int, int] = {}
_SENDS_LEFT_TO_DJANGO = 50
_MOST_REMEMBERED = 1000


def run_by_django(awaitables: Sequence[Awaitable[Any]]) -> Awaitable[list[Any]]:
    """Do what ``run_together()`` does, with Django's function."""
    if _run_parallel is None:
        return asyncio.gather(*awaitables)
    return stock._run_parallel(*awaitables)  # type: ignore[no-any-return]


async def run_together(
    awaitables: Sequence[Awaitable[Any]], receivers: Any
) -> list[Any]:
    """Await what the receivers have returned, all at the same time; return the results.

    ``receivers`` is a list, unless a patched look-up has returned something else.
    """
    loop = asyncio.get_running_loop()
    sender = asyncio.current_task()
    if (
        (_left_to_django and _is_left_to_django(receivers))
        or sender is None
        or not _can_start_early(loop, sender)
    ):
        return await run_by_django(awaitables)
    context = contextvars.copy_context()
    results: list[Any] = []
    fatal: list[BaseException] = []
    arguments = awaitables, results, fatal, loop, context
    task = start(*arguments, None)
    if not results:
        return await run_by_django(awaitables)
    try:
        if task is not None:
            _leave_to_django(receivers)
            await _wait_for(_Group(task, *arguments))
        elif sender.cancelling():
            # A receiver has cancelled the sender. In Django, the error is raised where
            # the sender waits for the group.
            await asyncio.sleep(0)
        return results
    finally:
        stock._restore_context(context=context)


def _identify_code(receivers: Any) -> int:
    # If a patched look-up has returned this list, a receiver may have emptied it.
    function = receivers[0] if type(receivers) is list and receivers else receivers
    if type(function) is MethodType:
        function = function.__func__
    return id(function.__code__ if type(function) is FunctionType else type(function))


def _is_left_to_django(receivers: Any) -> bool:
    """Return whether Django's function runs this send, and count the send."""
    code = _identify_code(receivers)
    left = _left_to_django.pop(code, 0)
    if left > 1:
        _left_to_django[code] = left - 1
    return left > 0


def _leave_to_django(receivers: Any) -> None:
    """Have Django's function run the next sends to these receivers."""
    if len(_left_to_django) >= _MOST_REMEMBERED:
        _left_to_django.clear()
    _left_to_django[_identify_code(receivers)] = _SENDS_LEFT_TO_DJANGO


def _can_start_early(loop: Any, sender: asyncio.Task[Any]) -> bool:
    """Return whether the time of the first steps is all that a program could notice."""
    return (
        CAN_START_EARLY
        and stock._run_parallel is _run_parallel
        and asyncio.tasks.Task is Task
        and asyncio.TaskGroup is _TaskGroup
        and _TaskGroup.create_task is _create_task_of_group
        # In Django, the loop creates the tasks, and calls a task factory if it has one.
        and (
            type(loop).create_task is _create_task_of_loop
            or type(loop).__module__ == "uvloop"
        )
        and "create_task" not in loop.__dict__
        and loop.get_task_factory() is None
        and not loop.get_debug()
        # In their first step, receivers would see the error that the sender handles.
        and sys.exception() is None
        # In Django, receivers of a sender that is being cancelled are cancelled too.
        and not sender.cancelling()
    )


def start(
    awaitables: Sequence[Awaitable[Any]],
    results: list[Any],
    fatal: list[BaseException],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    add_to_group: Callable[[asyncio.Task[Any]], None] | None,
) -> asyncio.Task[Any] | None:
    """Create a task for each awaitable that has no result yet, and run its first step.

    Call ``add_to_group`` with each task that the sender has to wait for, before the
    next task is created, as the loop continues them in that order. If it is None,
    return the first such task. If a receiver raises an error that ends the loop, append
    it to ``fatal`` and stop.

    Create no task if a receiver has returned something else than a coroutine. If it is
    a future, for example, the loop has to start its task before the others.
    """
    are_coroutines = set(map(type, awaitables)) == {CoroutineType}
    if _first_steps.nested == MOST_NESTED or not are_coroutines:
        return None
    _count_generators()
    _first_steps.nested += 1
    try:
        while len(results) < len(awaitables) and not fatal:
            generators = _first_steps.generators
            running = run(awaitables[len(results)], results, len(results))
            results.append(None)
            task = Task.__new__(Task)
            try:
                task.__init__(running, loop=loop, context=context, eager_start=True)
            except (KeyboardInterrupt, SystemExit) as error:
                fatal.append(error)
            if (
                not task.done()
                # If an asynchronous generator is left open, the loop closes it before
                # Django's sender continues.
                or _first_steps.generators != generators
                or (not task.cancelled() and task.exception() is not None)
            ):
                if add_to_group is None:
                    return task  # type: ignore[no-any-return]
                add_to_group(task)
    finally:
        _first_steps.nested -= 1
    return None


def _count_generators() -> None:
    """Count the asynchronous generators that begin, until the loop resets its hook."""
    hook: Any = sys.get_asyncgen_hooks().firstiter
    if type(hook) is not partial or hook.func is not _count_generator:
        sys.set_asyncgen_hooks(firstiter=partial(_count_generator, hook))


def _count_generator(hook: Any, generator: Any) -> None:
    _first_steps.generators += 1
    if hook is not None:
        hook(generator)


async def run(awaitable: Awaitable[Any], results: list[Any], position: int) -> None:
    """Store the result of a receiver, also if its task is cancelled in the end."""
    results[position] = await awaitable


# Programs can read this name, as in the repr() of a task, so it is Django's.
run.__qualname__ = RUN = "_run_parallel.<locals>.run"


class _Outcome(asyncio.Future[None]):
    """Stands for a finished task: the group notices it in the loop's next turn."""

    def copy(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)

    def set_name(self, name: object) -> None:
        pass


async def _nothing() -> None:
    """Stand for what a task that is added to a group has begun already."""


class _Group:
    """A task group that the sender waits for, and the future that its task waits for.

    Receivers run one turn of the loop earlier than in Django, where a cancellation of
    the sender takes one turn to reach the group. To keep the order, it reaches the
    group at once here, unless a receiver cancels the sender: then it is early itself.
    """

    def __init__(self, task: asyncio.Task[Any], *arguments: Any) -> None:
        self.arguments: Any = arguments
        _, _, self.fatal, self.loop, _ = self.arguments
        self.tasks: list[asyncio.Task[Any]] = []
        # The task with an error that ends the loop, after its future in the group.
        self.fatal_member: tuple[_Outcome, asyncio.Task[Any]] | None = None
        self.error: BaseException | None = None
        self.running = self.run(task)
        # The future that the group waits for; None once the group has ended.
        self.future: Any = self.running.send(None)
        self.future._asyncio_future_blocking = False
        self.awaited = self.future
        self._asyncio_future_blocking = True
        self.add_done_callback: Any = (
            self.leave_loop if self.fatal else self.awaited.add_done_callback
        )

    async def run(self, task: asyncio.Task[Any]) -> None:
        """Start the remaining receivers, and wait for ``task`` and for them."""
        awaitables, results, fatal, loop, context = self.arguments
        try:
            async with asyncio.TaskGroup() as group:
                add_to_group = partial(self.add_to_group, group)
                add_to_group(task)
                if len(results) < len(awaitables):
                    start(awaitables, results, fatal, loop, context, add_to_group)
                # Receivers that start() hasn't started, as after an error that ends the
                # loop, are started by the loop.
                for position in range(len(results), len(awaitables)):
                    results.append(None)
                    running = run(awaitables[position], results, position)
                    group.create_task(running, context=context)
                if self.fatal_member is not None:
                    # Only now, so that these begin before the group cancels them.
                    member, done = self.fatal_member
                    member.copy(done)
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0]  # noqa: B904 - as in Django
            raise

    def add_to_group(self, group: asyncio.TaskGroup, task: asyncio.Task[Any]) -> None:
        """Add a task to the group, which takes existing ones from a factory only."""
        self.tasks.append(task)
        name = task.get_name()
        member: Any = _Outcome(loop=self.loop) if task.done() else task
        unused = _nothing()
        # A receiver may have set a task factory.
        factory = self.loop.get_task_factory()
        self.loop.set_task_factory(lambda *args, **options: member)
        try:
            group.create_task(unused)
        finally:
            self.loop.set_task_factory(factory)
            unused.close()
        member.set_name(name)  # On Python 3.13, create_task() has changed the name.
        if self.fatal:
            self.fatal_member = member, task
        elif member is not task:
            member.copy(task)

    def throw(self, error: BaseException) -> None:
        """Raise an error in the group, which may end with it or continue to wait."""
        self.future = None
        try:
            self.future = self.running.throw(error)
            self.future._asyncio_future_blocking = False
        except StopIteration:
            pass
        except BaseException as raised:
            self.error = raised

    def get_loop(self) -> Any:
        return self.loop

    def result(self) -> None:
        """Return nothing, so that the sender's task continues when it is woken up."""

    def cancel(self, msg: Any = None) -> bool:
        if self.awaited.done():
            return False
        if asyncio.current_task(self.loop) in self.tasks or not self.loop.is_running():
            return self.awaited.cancel(msg)  # type: ignore[no-any-return]
        self.throw(asyncio.CancelledError(*([] if msg is None else [msg])))
        if self.future is None:
            self.wake_up()
        else:
            self.future.add_done_callback(self.wake_up)
        return True

    def wake_up(self, future: Any = None) -> None:
        if not self.awaited.done():
            self.awaited.set_result(None)

    def leave_loop(self, wake_up: Any, *, context: Any) -> None:
        """Raise the error that leaves the loop, as in Django while the sender waits."""
        self._asyncio_future_blocking = True
        self.add_done_callback = self.awaited.add_done_callback
        self.loop.call_soon(wake_up, self, context=context)
        raise self.fatal.pop()


@coroutine
def _wait_for(group: _Group) -> Iterator[Any]:
    cancelled = None
    try:
        yield group
        if not group.awaited.done():
            # An error has left the loop, which runs again.
            yield group
    except asyncio.CancelledError as error:
        cancelled = error
    # Not in the except block, whose error would become the context of later errors.
    if cancelled is not None:
        group.throw(cancelled)
        del cancelled
        if group.future is not None:
            group.future._asyncio_future_blocking = True
            yield group.future
    if group.error is not None:
        try:
            raise group.error
        finally:
            del group
    if group.future is not None:
        yield from group.running
