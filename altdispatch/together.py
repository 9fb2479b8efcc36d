"""Asynchronous receivers, all started and then waited for, as Django's releases do it.

Each has a task of its own. From Python 3.12 a task can make its first step where it is
made. Those that end with it need no turn of the event loop and no group to wait for
them, and if all do, neither does the sender.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Awaitable, Sequence
from types import CoroutineType
from typing import Any

from .bridges import KNOWN_ASYNCIO, join
from .releases import SHARES_CONTEXT

Task: Any = asyncio.Task

# A task that is started in the first step of another has that below it on the stack,
# which isn't as deep as tasks can be nested.
MOST_STARTS = 10


class _Starts(threading.local):
    now = 0


_starts = _Starts()


async def _run_in_one_context(
    coroutines: Sequence[Awaitable[Any]], start_here: bool = True
) -> list[Any]:
    context = contextvars.copy_context()
    if not coroutines:
        return []
    loop = asyncio.get_running_loop()
    sender = asyncio.current_task(loop)
    results: list[Any] = []
    try:
        if not start_here or sender is None or not _makes_plain_tasks(loop):
            return await _run_in_group(coroutines, context)
        # What the sender handles, a receiver would see in a step below it. And a sender
        # that has been cancelled cancels all before they make another step.
        here = sys.exception() is None and not sender.cancelling()
        task = start(coroutines, results, loop, context, here)
        if task is not None:
            await _start_rest(task, coroutines, results, loop, context, here)
        elif sender.cancelling():
            # By a receiver. It's due where the sender would wait for them.
            await asyncio.sleep(0)
        return results
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0]  # noqa: B904 - not from the group
        raise
    finally:
        _carry_back(context)


async def _run_in_group(
    coroutines: Sequence[Awaitable[Any]], context: contextvars.Context
) -> list[Any]:
    results: list[Any] = [None] * len(coroutines)

    async def keep_result(position: int, coroutine: Awaitable[Any]) -> None:
        results[position] = await coroutine

    async with asyncio.TaskGroup() as group:
        for position, coroutine in enumerate(coroutines):
            group.create_task(keep_result(position, coroutine), context=context)
    return results


async def _start_rest(
    task: asyncio.Task[Any] | None,
    coroutines: Sequence[Awaitable[Any]],
    results: list[Any],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    here: bool,
) -> None:
    """Start those that ``start()`` has not, and wait for what isn't done at once.

    That is what it has returned to begin with, ``task``. The results are completed.
    """
    waited_for = {}
    async with asyncio.TaskGroup() as group:
        while task is not None:
            waited_for[len(results) - 1] = task
            if _ends_the_loop(task):
                loop.call_soon(_raise, task)
                here = False
            # Before the next one starts: what the loop does next is in the order in
            # which it is asked to.
            join(group, task)
            task = start(coroutines, results, loop, context, here)
    for position, task in waited_for.items():
        if not task.cancelled():
            results[position] = task.result()


def start(
    coroutines: Sequence[Awaitable[Any]],
    results: list[Any],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    here: bool,
) -> asyncio.Task[Any] | None:
    """Make a task for each coroutine for which there is no result yet, and start it.

    Stop at the first that doesn't succeed at once, and return its task; its result is
    None until the caller knows better. Without ``here``, a task starts by the loop.
    """
    here = here and _starts.now < MOST_STARTS
    _starts.now += 1
    try:
        while len(results) < len(coroutines):
            coroutine = coroutines[len(results)]
            if type(coroutine) is not CoroutineType:
                coroutine = as_coroutine(coroutine)
            task = Task.__new__(Task)
            results.append(None)
            try:
                Task.__init__(
                    task, coroutine, loop=loop, context=context, eager_start=here
                )
            except (KeyboardInterrupt, SystemExit):
                # Of the receiver's, and so kept by the task.
                if not task.done():
                    raise
            if not task.done() or task.cancelled() or task.exception() is not None:
                return task  # type: ignore[no-any-return]
            results[-1] = task.result()
    finally:
        _starts.now -= 1
    return None


async def as_coroutine(awaitable: Awaitable[Any]) -> Any:
    """Return what the awaitable gives: a task needs a coroutine."""
    return await awaitable


def _makes_plain_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop would make the tasks that ``start()`` makes."""
    return (
        KNOWN_ASYNCIO
        and asyncio.tasks.Task is Task
        and loop.get_task_factory() is None
        and not loop.get_debug()
        and (
            type(loop).create_task is asyncio.BaseEventLoop.create_task
            or type(loop).__module__ == "uvloop"
        )
    )


def _ends_the_loop(task: asyncio.Task[Any]) -> bool:
    return (
        task.done()
        and not task.cancelled()
        and isinstance(task.exception(), (KeyboardInterrupt, SystemExit))
    )


def _raise(task: asyncio.Task[Any]) -> None:
    error = task.exception()
    assert error is not None
    raise error


def _carry_back(context: contextvars.Context) -> None:
    """Set in the current context what differs from it in ``context``."""
    for variable, value in context.items():
        try:
            changed = variable.get() != value
        except LookupError:
            changed = True
        if changed:
            variable.set(value)


def _gather(
    coroutines: Sequence[Awaitable[Any]], start_here: bool = True
) -> Awaitable[list[Any]]:
    return asyncio.gather(*coroutines)


#: What awaits all of some coroutines at once and gives their results, in their order.
#: An error in one of them is raised as the followed release of Django raises it. They
#: may start where they are made unless ``start_here`` is false.
run_together = _run_in_one_context if SHARES_CONTEXT else _gather
