"""Time the calls of receivers: what the dispatcher does while monitoring is on.

Compiled code times the calls that it makes itself, in the same way.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from types import CoroutineType
from typing import Any

from . import dispatcher, implementations, rows
from .calls import is_silent, report, subscribers
from .rows import (
    Clock,
    ReceiverRow,
    Row,
    find_counts,
    find_receiver,
    find_row,
    make_numbers,
)

#: Whether to count also without subscribers.
is_enabled = False

#: The number of a strand, a sequence of calls that can nest, as those of a thread: how
#: many nanoseconds receivers took that were called inside the current one.
INSIDE = 0

# Those of the tasks of asynchronous receivers, and of greenlets, by their ids.
_strands: dict[int, Row] = {}


class _Thread(threading.local):
    def __init__(self) -> None:
        self.strand = make_numbers(1)


_thread = _Thread()


def _get_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        # No loop is running.
        return None


def find_strand() -> memoryview:
    """Return the strand of this receiver's task, this greenlet or this thread."""
    if _has_tasks:
        task = _get_task()
        row = _strands.get(id(task))
        if row is not None and row.subject() is task:
            return row.counts
    if _get_greenlet is not None:
        greenlet = _get_greenlet()
        # The first greenlet of a thread has that of the thread.
        if greenlet.parent is not None:
            return find_row(_strands, greenlet, Row, 1).counts
    get_strand = implementations.in_use.get_strand
    return _thread.strand if get_strand is None else get_strand()


# Whether an asynchronous receiver was watched: from then on, tasks may have strands.
_has_tasks = False
# Returns the current greenlet, if the library was loaded when monitoring was turned on.
_get_greenlet: Any = None


def switch() -> None:
    """Have the dispatcher call what is here, compiled code too, or no longer."""
    global _get_greenlet
    _get_greenlet = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    dispatcher.watching = sys.modules[__name__]
    dispatcher.is_watched = is_enabled or bool(subscribers)
    watch = implementations.in_use.watch
    if watch is not None:
        has_strands = _has_tasks or _get_greenlet is not None
        watch(
            find_counts if dispatcher.is_watched else None,
            find_strand if has_strands else None,
            None if _has_tasks else _get_greenlet,
            subscribers.limit,
            report,
            is_silent,
        )


def count_send(signal: Any, *found: Any) -> None:
    """Count a send to receivers that were found: lists, or what a patch returned."""
    if not is_silent.get():
        # Only a list says whether it's empty without running a program's code.
        is_heard = any(type(each) is not list or each for each in found)
        rows.count_send(signal, is_heard)


def count_unheard(signal: Any) -> list[Any]:
    """Count a send that nobody hears, and return its responses."""
    count_send(signal)
    return []


class Span:
    """Times a block in which receivers are called, for the receiver around it."""

    __slots__ = ("_inside", "_start", "_strand")

    def __enter__(self) -> None:
        self._strand = find_strand()
        self._inside = self._strand[INSIDE]
        self._start = Clock.count()

    def __exit__(self, *error: object) -> None:
        self._strand[INSIDE] = self._inside + Clock.count() - self._start


class Watch:
    """Times and counts the call of a receiver that is made in a block."""

    __slots__ = (
        "_inside",
        "_is_async",
        "_outer",
        "_receiver",
        "_row",
        "_sender",
        "_signal",
        "_start",
        "_strand",
        "_task",
    )

    def __init__(self, signal: Any, sender: Any, receiver: Any, is_async: bool) -> None:
        self._signal = signal
        self._sender = sender
        self._receiver = receiver
        self._is_async = is_async
        self._row: ReceiverRow | None = None
        self._task: asyncio.Task[Any] | None = None

    def __enter__(self) -> None:
        if is_silent.get():
            return
        self._row = find_receiver(self._signal, self._receiver)
        self._strand = self._enter_task() if self._is_async else find_strand()
        self._inside = self._strand[INSIDE]
        self._strand[INSIDE] = 0
        self._start = Clock.count()

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self._row is None:
            return
        duration = Clock.count() - self._start
        own = max(duration - self._strand[INSIDE], 0)
        if self._task is None:
            self._strand[INSIDE] = self._inside + duration
        elif self._outer is None:
            _strands.pop(id(self._task), None)
        else:
            _strands[id(self._task)] = self._outer
        rows.count_call(self._row.counts, duration, own, error is not None)
        if duration >= subscribers.limit:
            report(
                self._signal,
                self._sender,
                self._receiver,
                error,
                self._start,
                duration,
                own,
                self._is_async,
            )

    def _enter_task(self) -> memoryview:
        """Return a strand for an asynchronous receiver.

        It has a task to itself, unless it's the asynchronous side of a hybrid receiver:
        then that's the task of the sender, which may be a receiver too.
        """
        global _has_tasks
        if not _has_tasks:
            _has_tasks = True
            switch()
        if self._row is not None:
            self._row.is_async = True
        self._task = _get_task()
        if self._task is None:
            return make_numbers(1)
        self._outer = _strands.pop(id(self._task), None)
        return find_row(_strands, self._task, Row, 1).counts


class _Coroutine:
    """Has the coroutine of a receiver."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine


class _Unstarted(_Coroutine):
    """Closes a coroutine that its owner hasn't started, so that only that warns."""

    __slots__ = ()

    def __del__(self) -> None:
        self.coroutine.close()


_traceback: Any = vars(BaseException)["__traceback__"]


async def _watch(signal: Any, sender: Any, receiver: Any, unstarted: _Unstarted) -> Any:
    # From here on without a finalizer, in which an interrupt would be lost.
    unstarted.__class__ = _Coroutine  # type: ignore[assignment]
    try:
        with Watch(signal, sender, receiver, True):
            return await unstarted.coroutine
    except BaseException as error:
        # Without the entry of this function, as if nobody watched.
        _traceback.__set__(error, _traceback.__get__(error).tb_next)
        raise


def watch_coroutine(signal: Any, sender: Any, receiver: Any, awaitable: Any) -> Any:
    """Return an awaitable that times the one that an asynchronous receiver returned.

    Awaitables that aren't coroutines are returned unchanged: wrapped in a coroutine,
    they would start at another time.
    """
    if type(awaitable) is not CoroutineType or is_silent.get():
        return awaitable
    watched: Any = _watch(signal, sender, receiver, _Unstarted(awaitable))
    watched.__name__ = awaitable.__name__
    watched.__qualname__ = awaitable.__qualname__
    return watched
