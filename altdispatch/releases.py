"""What differs between the releases of Django that altdispatch follows.

Everything else in altdispatch is the same on all of them. A release newer than
the newest known one is followed as if it were that one, and only where the
project asks for it: see ``swap.install()``.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Coroutine
from typing import Any

import django

RELEASE = django.VERSION[:2]

#: An entry of ``receivers`` also holds a reference to its sender, and goes when
#: the sender dies. Before, it was ``(lookup_key, receiver, is_async)``.
WATCHES_SENDERS = RELEASE >= (6, 0)

#: The weak reference to a receiver reports the receiver's death itself. Before,
#: a finalizer did, which keeps the signal alive for as long as the receiver.
REFERENCES_REPORT = RELEASE >= (6, 1)

#: ``asend()`` and ``asend_robust()`` wait for the synchronous receivers before
#: the asynchronous ones are started. Before, all were started together.
SYNC_RECEIVERS_FIRST = RELEASE >= (6, 1)

#: Asynchronous receivers share one copy of the caller's context, and what they
#: change in it is carried back. Before, each had a copy of its own.
SHARES_CONTEXT = RELEASE >= (6, 1)

ENTRY_LENGTH = 4 if WATCHES_SENDERS else 3


def run_together(*coroutines: Coroutine[Any, Any, Any]) -> Awaitable[list[Any]]:
    """Return what awaits all of ``coroutines`` at once and gives their results.

    The results come in the order of the coroutines. An error in one of them is
    raised as the followed release of Django raises it.
    """
    if SHARES_CONTEXT:
        return _run_in_one_context(coroutines)
    return asyncio.gather(*coroutines)


async def _run_in_one_context(
    coroutines: tuple[Coroutine[Any, Any, Any], ...],
) -> list[Any]:
    context = contextvars.copy_context()
    if not coroutines:
        return []
    results: list[Any] = [None] * len(coroutines)

    async def keep_result(position: int, coroutine: Coroutine[Any, Any, Any]) -> None:
        results[position] = await coroutine

    try:
        async with asyncio.TaskGroup() as group:
            for position, coroutine in enumerate(coroutines):
                group.create_task(keep_result(position, coroutine), context=context)
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0]  # noqa: B904 - not from the group
        raise
    finally:
        _carry_back(context)
    return results


def _carry_back(context: contextvars.Context) -> None:
    """Set in the current context what differs from it in ``context``."""
    for variable, value in context.items():
        try:
            changed = variable.get() != value
        except LookupError:
            changed = True
        if changed:
            variable.set(value)
