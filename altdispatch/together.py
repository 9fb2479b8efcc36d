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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from types import CoroutineType, FunctionType, MethodType, coroutine
from typing import Any

import django.dispatch.dispatcher

#: Django's own dispatcher.
stock: Any = django.dispatch.dispatcher

Task: Any = asyncio.Task
# What makes tasks, which programs and agents patch: Django's way is taken then.
_TaskGroup: Any = asyncio.TaskGroup
_create_task_of_group: Any = asyncio.TaskGroup.create_task
_create_task_of_loop: Any = asyncio.BaseEventLoop.create_task

# From Django 6.1. Before, each receiver has a context of its own.
_run_parallel: Any = getattr(stock, "_run_parallel", None)

#: Whether tasks can make their first step where they are made (Python 3.12), and
#: receivers share the context in which they are to make it.
CAN_START_EARLY = hasattr(asyncio, "eager_task_factory") and _run_parallel is not None

# A first step in which a receiver sends nests on the stack. Tasks in the loop don't.
MOST_NESTED = 10


class _FirstSteps(threading.local):
    # What is known of those that this thread is making.
    nested = 0
    generators = 0


_first_steps = _FirstSteps()


# Starting receivers early only pays if they return in their first step. If one did not,
# Django's way is faster, and the next sends to it go that way: this has how many such
# sends are left, by the id() of the first receiver's code. If that id is another code's
# by now, only the time differs.
_left_to_django: dict[int, int] = {}
_SENDS_LEFT_TO_DJANGO = 50
_MOST_REMEMBERED = 1000


def run_by_django(awaitables: Sequence[Awaitable[Any]]) -> Awaitable[list[Any]]:
    """Do what ``run_together()`` does, but as Django does it."""
    if _run_parallel is None:
        return asyncio.gather(*awaitables)
    return stock._run_parallel(*awaitables)  # type: ignore[no-any-return]


async def run_together(
    awaitables: Sequence[Awaitable[Any]], receivers: Any
) -> list[Any]:
    """Await what the receivers have returned, all at the same time; return the results.

    ``receivers`` is a list, unless a patched look-up has found something else.
    """
    loop = asyncio.get_running_loop()
    sender = asyncio.current_task()
    if (
        sender is None
        or not _can_start_early(loop, sender)
        or (_left_to_django and _is_left_to_django(receivers))
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
            # By a receiver: Django's sender notices where it waits for the group.
            await asyncio.sleep(0)
        return results
    finally:
        stock._restore_context(context=context)


def _identify_code(receivers: Any) -> int:
    # A receiver may have emptied the list that a patched look-up has returned.
    function = receivers[0] if type(receivers) is list and receivers else receivers
    if type(function) is MethodType:
        function = function.__func__
    return id(function.__code__ if type(function) is FunctionType else type(function))


def _is_left_to_django(receivers: Any) -> bool:
    """Return whether Django is to do this send, and count it."""
    code = _identify_code(receivers)
    left = _left_to_django.pop(code, 0)
    if left > 1:
        _left_to_django[code] = left - 1
    return left > 0


def _leave_to_django(receivers: Any) -> None:
    """Have Django do the next sends to these receivers."""
    if len(_left_to_django) >= _MOST_REMEMBERED:
        _left_to_django.clear()
    _left_to_django[_identify_code(receivers)] = _SENDS_LEFT_TO_DJANGO


def _can_start_early(loop: Any, sender: asyncio.Task[Any]) -> bool:
    """Return whether a program could only tell by the time of the first steps."""
    return (
        CAN_START_EARLY
        and stock._run_parallel is _run_parallel
        and asyncio.tasks.Task is Task
        and asyncio.TaskGroup is _TaskGroup
        and _TaskGroup.create_task is _create_task_of_group
        # The loop makes such tasks, and would ask a task factory for them.
        and (
            type(loop).create_task is _create_task_of_loop
            or type(loop).__module__ == "uvloop"
        )
        and "create_task" not in loop.__dict__
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

    Call ``join`` with those that the sender has to wait for, before the next one is
    made, as the loop goes on in that order. Without it, return the first such task.
    An error that ends the loop is put into ``fatal``, and ends this too.

    Make none if a receiver has returned something else than a coroutine: a future, say,
    whose task the loop has to start before it starts the others.
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
    """Count those that this thread begins, until its loop sets the hook back."""
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


class _Outcome(asyncio.Future[None]):
    """Stands for a task that is done: the group learns of it in the next turn."""

    def copy(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)

    def set_name(self, name: object) -> None:
        pass


def give_member(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """Return what is a future already, or make a task."""
    if isinstance(coroutine, asyncio.Future):
        return coroutine
    return Task(coroutine, loop=loop, **options)


class _Group:
    """A task group that the sender waits for, and the future that its task waits for.

    Receivers are a turn of the loop ahead of Django's, where it takes a turn for a
    cancellation of the sender to reach the group. Here it reaches the group at once,
    unless it comes from a receiver, and is ahead itself.
    """

    def __init__(self, task: asyncio.Task[Any], *arguments: Any) -> None:
        self.arguments: Any = arguments
        _, _, self.fatal, self.loop, _ = self.arguments
        self.tasks: list[asyncio.Task[Any]] = []
        # The task with the error that ends the loop, and its member of the group.
        self.left_open: tuple[_Outcome, asyncio.Task[Any]] | None = None
        self.error: BaseException | None = None
        self.running = self.run(task)
        # What the group waits for; None once it has ended.
        self.future: Any = self.running.send(None)
        self.future._asyncio_future_blocking = False
        self.awaited = self.future
        self._asyncio_future_blocking = True
        self.add_done_callback: Any = (
            self.leave_loop if self.fatal else self.awaited.add_done_callback
        )

    async def run(self, task: asyncio.Task[Any]) -> None:
        """Start the rest of the receivers, and wait for all from ``task`` on."""
        awaitables, results, fatal, loop, context = self.arguments
        try:
            async with asyncio.TaskGroup() as group:
                join = partial(self.join, group)
                join(task)
                if len(results) < len(awaitables):
                    start(awaitables, results, fatal, loop, context, join)
                # Those that come after an error that ends the loop, before they start.
                for position in range(len(results), len(awaitables)):
                    results.append(None)
                    running = run(awaitables[position], results, position)
                    group.create_task(running, context=context)
                if self.left_open is not None:
                    # Only now, for these to begin before the group cancels them.
                    member, done = self.left_open
                    member.copy(done)
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0]  # noqa: B904 - as in Django
            raise

    def join(self, group: asyncio.TaskGroup, task: asyncio.Task[Any]) -> None:
        """Have the group wait for a task, which it takes from a task factory only."""
        self.tasks.append(task)
        name = task.get_name()
        member: Any = _Outcome(loop=self.loop) if task.done() else task
        # A receiver may have set one.
        factory = self.loop.get_task_factory()
        self.loop.set_task_factory(give_member)
        try:
            group.create_task(member)
        finally:
            self.loop.set_task_factory(factory)
        member.set_name(name)  # Python 3.13 has changed it.
        if self.fatal:
            self.left_open = member, task
        elif member is not task:
            member.copy(task)

    def throw(self, error: BaseException) -> None:
        """Throw an error into the group, which may end with it, or wait again."""
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
        """Have the sender's task go on."""

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
        """Raise what with Django comes out of the loop while the sender waits."""
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
            # The loop was left, and runs again.
            yield group
    except asyncio.CancelledError as error:
        cancelled = error
    # Not in there: what comes of it would have that as its context.
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
