"""Counts of sends and of receivers' calls: what ``altdispatch.monitoring`` reads.

There is a row for each signal, and for each of its receivers. A receiver is recognised
by its code or class, a built-in method by its class and name. So receivers that a
program creates again and again share a row. No row keeps a signal or a receiver alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any, TypeVar
from weakref import ref  # Programs and tests replace it in its module.

from .naming import (
    dotted,
    find_function,
    find_in_class,
    name_signals,
    stored,
    unwrap,
)
from .tasks import task_receiver_of

#: The numbers in a row's counts, all times in nanoseconds: of calls, of those that
#: raised an error, their total time, the longest, the time without receivers that were
#: called inside, and for each power of two how many calls took less than that, and at
#: least half of it.
CALLS, ERRORS, TOTAL, LONGEST, OWN, BUCKETS = range(6)
MOST_BUCKETS = 48

#: In the row of a signal: its sends, and those of them that nobody heard.
SENDS, UNHEARD = range(2)


class Clock:
    """The clocks that calls are timed by.

    They are not in a module, where libraries that freeze the time replace them.
    """

    #: Return nanoseconds, on the scale of ``time.perf_counter()``.
    count = staticmethod(time.perf_counter_ns)
    #: Return nanoseconds since the epoch.
    tell = staticmethod(time.time_ns)

    @classmethod
    def convert(cls, count: int) -> int:
        """Return the nanoseconds since the epoch of a moment that was counted."""
        # Both clocks are read again if this thread was interrupted in between.
        for _ in range(5):
            before, now, after = cls.count(), cls.tell(), cls.count()
            if after - before < 50_000:
                break
        return now - after + count


def make_numbers(count: int) -> memoryview:
    """Return ``count`` zeros, for compiled code to write to."""
    return memoryview(bytearray(8 * count)).cast("q")


class Row:
    """Numbers that are kept of an object: of a signal, the counts, or of a receiver.

    Attributes:

        subject
            A weak reference to the object: the signal, or the receiver's code or class.
            For a built-in method it's the method's class, for a built-in function the
            function.
        counts
            See ``CALLS``.
    """

    __slots__ = ("counts", "subject")

    def __init__(
        self,
        subject: Any,
        table: dict[Any, Any],
        key: Any,
        count: int = BUCKETS + MOST_BUCKETS,
    ) -> None:
        forget = partial(_forget, table, key)
        self.subject: Callable[[], Any] = ref(subject, forget)
        self.counts = make_numbers(count)


class ReceiverRow(Row):
    """The counts of a receiver, and how to show it to people."""

    __slots__ = ("is_async", "name", "place")

    def __init__(
        self, subject: Any, table: dict[Any, Any], key: Any, target: Any
    ) -> None:
        function = find_function(target)
        code = stored(function, "__code__")
        self.is_async = False
        self.name = dotted(function)
        self.place: str | None = None
        if type(code) is CodeType:
            self.place = f"{code.co_filename}:{code.co_firstlineno}"
        super().__init__(subject, table, key)


class SignalRow(Row):
    """The counts of a signal, its name once that was asked for, and its receivers."""

    __slots__ = ("name", "receivers")

    def __init__(self, subject: Any, table: dict[Any, Any], key: Any) -> None:
        self.name: str | None = None
        self.receivers: dict[Any, ReceiverRow] = {}
        super().__init__(subject, table, key)


AnyRow = TypeVar("AnyRow", bound=Row)

# On PyPy, the functions of built-in methods have the type of Python functions.
_BUILT_IN = (BuiltinFunctionType, FunctionType)

#: By the ids of their subjects.
signals: dict[int, SignalRow] = {}


def _forget(table: dict[Any, Any], key: Any, reference: Any) -> None:
    row = table.get(key)
    # It may be another's by now.
    if row is not None and row.subject is reference:
        table.pop(key, None)


def find_row(
    table: dict[Any, AnyRow],
    subject: Any,
    make: type[AnyRow],
    *arguments: Any,
    name: str = "",
) -> AnyRow:
    """Return the row of an object, which is never hashed or compared.

    A built-in method's row is that of its class and its ``name``.
    """
    key = (id(subject), name) if name else id(subject)
    row = table.get(key)
    if row is not None and row.subject() is subject:
        return row
    table.pop(key, None)
    # Another thread may have been faster.
    return table.setdefault(key, make(subject, table, key, *arguments))


def find_signal(signal: Any) -> SignalRow:
    """Return the row of a signal."""
    return find_row(signals, signal, SignalRow)


def find_receiver(signal: Any, receiver: Any) -> ReceiverRow:
    """Return the row of a receiver of a signal."""
    queued = task_receiver_of(receiver)
    target = unwrap(queued.task.func if queued else receiver)
    subject, name = stored(target, "__code__"), ""
    if type(subject) is not CodeType:
        subject, name = _find_subject(target)
    table = find_signal(signal).receivers
    return find_row(table, subject, ReceiverRow, target, name=name)


def _find_subject(target: Any) -> tuple[Any, str]:
    """Return the subject of the row of a receiver without code in Python.

    If it's a built-in method, return its name as well.
    """
    if issubclass(type(target), type):
        return target, ""
    if type(target) not in _BUILT_IN:
        return type(target), ""
    # A built-in method is a new object each time it's looked up.
    name = stored(target, "__name__")
    owner = stored(target, "__self__")
    cls = owner if issubclass(type(owner), type) else type(owner)
    if owner is None or find_in_class(cls, name) is None:
        return target, ""
    return cls, name


def find_counts(signal: Any, receiver: Any) -> tuple[Any, Any, memoryview]:
    """Return what compiled code keeps of a row, as long as the references live.

    They are to the signal, and to the receiver, or the function of a method. For the
    row of the signal itself, ``receiver`` is the signal.
    """
    signal_row = find_signal(signal)
    if receiver is signal:
        return signal_row.subject, signal_row.subject, signal_row.counts
    row = find_receiver(signal, receiver)
    known: Any
    try:
        known = ref(receiver.__func__ if type(receiver) is MethodType else receiver)
    except TypeError:
        # What can't be referred to is looked up here each time.
        known = row.subject
    return signal_row.subject, known, row.counts


def name_signal(signal: Any) -> str:
    """Return the name under which a signal can be imported, or that of its class."""
    row = find_signal(signal)
    if row.name is None:
        name_rows([row])
    return row.name or ""


def name_rows(signal_rows: Iterable[SignalRow]) -> None:
    """Name those that have no name yet."""
    unnamed = [
        (row, signal)
        for row in signal_rows
        if row.name is None and (signal := row.subject()) is not None
    ]
    # It looks at all modules, so each signal is named once.
    names = name_signals([signal for _, signal in unnamed])
    for row, signal in unnamed:
        row.name = names.get(id(signal), dotted(type(signal)))


def reset() -> None:
    """Set all counts to zero; compiled code goes on with the same rows."""
    for signal_row in signals.copy().values():
        for row in (signal_row, *signal_row.receivers.copy().values()):
            row.counts[:] = make_numbers(len(row.counts))


def count_call(counts: memoryview, duration: int, own: int, has_failed: bool) -> None:
    """Add a call to the counts of its receiver; times are in nanoseconds."""
    counts[CALLS] += 1
    counts[ERRORS] += has_failed
    counts[TOTAL] += duration
    counts[LONGEST] = max(counts[LONGEST], duration)
    counts[OWN] += own
    counts[BUCKETS + min(duration.bit_length(), MOST_BUCKETS - 1)] += 1


def count_send(signal: Any, is_heard: bool) -> None:
    """Add a send to the counts of its signal."""
    counts = find_signal(signal).counts
    counts[SENDS] += 1
    counts[UNHEARD] += not is_heard
