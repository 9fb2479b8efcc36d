"""See which signals are sent, which receivers run, how often and how long.

Monitoring is off until ``enable()`` or ``subscribe()`` is called, or the setting
``ALTDISPATCH = {"MONITORING": True}`` is made. It counts in this process only, what the
methods of ``Signal`` send; signals of a class with methods of its own are counted where
these call Django's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from . import rows, watching
from .calls import Call, subscribers

__all__ = [
    "Call",
    "ReceiverStats",
    "SignalStats",
    "Snapshot",
    "Subscription",
    "disable",
    "enable",
    "is_enabled",
    "reset",
    "snapshot",
    "subscribe",
]


_BOUNDS = tuple(2**n / 1e9 for n in range(rows.MOST_BUCKETS))


class _Stats:
    def as_dict(self) -> dict[str, Any]:
        """Return the attributes in a dictionary, as JSON can have it.

        .. versionadded:: 0.2
        """
        return asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class ReceiverStats(_Stats):
    """What was counted of a receiver of a signal.

    Receivers with the same code share one, such as functions that are made for each
    request; so do objects of the same class, and built-in methods of the same class and
    name. Wrappers that set ``__wrapped__`` are looked through.

    Attributes:

        name
            The name of the function or class, with its module. Several receivers may
            have the same one.
        place
            Where it is written, as ``"file:line"``; None if that isn't known.
        is_async
            Whether it is asynchronous. Its times are from start to end then, with all
            that it waited for.
        calls
            How often it was called.
        errors
            How many of the calls ended in an exception, of any type: a
            ``CancelledError`` is one.
        total, longest
            The seconds that all calls took together, and the longest of them.
        own
            The seconds of ``total`` in which no other receiver ran that was called
            inside this one.
        buckets
            How many calls took less than so many seconds, and at least half as many:
            pairs of the upper bound, a power of two of a nanosecond, and the count. The
            bounds are the same for all receivers.

    .. versionadded:: 0.2
    """

    name: str
    place: str | None
    is_async: bool
    calls: int
    errors: int
    total: float
    longest: float
    own: float
    buckets: tuple[tuple[float, int], ...]

    def quantile(self, q: float) -> float:
        """Return how many seconds the share ``q`` of the calls took at most.

        ``q`` is from 0 to 1: 0.5 gives the median. It's an estimate, from the buckets:
        in the worst case it is half or twice the true value. Without calls it is 0.

        Raise ``ValueError`` if ``q`` is not from 0 to 1.

        .. versionadded:: 0.2
        """
        if not 0 <= q <= 1:
            raise ValueError(f"A quantile is from 0 to 1, not {q!r}.")
        missing = q * sum(count for _, count in self.buckets)
        for upper, count in self.buckets:
            if count and missing <= count:
                return min(upper / 2 * (1 + missing / count), self.longest)
            missing -= count
        return self.longest


@dataclass(frozen=True)
class SignalStats(_Stats):
    """What was counted of a signal.

    Attributes:

        name
            That under which the signal can be imported; the name of its class if there
            is none. Several signals may have the same one.
        sends
            How often it was sent, by any of the four methods.
        unheard
            How many of these sends reached no receiver.
        receivers
            A ``ReceiverStats`` for each receiver that was called, in the order of their
            first calls.

    .. versionadded:: 0.2
    """

    name: str
    sends: int
    unheard: int
    receivers: tuple[ReceiverStats, ...]


@dataclass(frozen=True)
class Snapshot(_Stats):
    """What was counted in this process since monitoring began or ``reset()``.

    Attributes:

        signals
            A ``SignalStats`` for each signal that was sent, by name. What a signal that
            is gone has counted is gone too.

    .. versionadded:: 0.2
    """

    signals: tuple[SignalStats, ...]


class Subscription:
    """What ``subscribe()`` returns. Call it to end the subscription.

    As a context manager, it ends the subscription at the end of the block.

    .. versionadded:: 0.2
    """

    def __call__(self) -> None:
        subscribers.remove(self)
        watching.switch()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *error: object) -> None:
        self()


def enable() -> None:
    """Count sends and time receivers, in all threads, from the next send on.

    .. versionadded:: 0.2
    """
    watching.is_enabled = True
    watching.switch()


def disable() -> None:
    """Stop counting. What was counted stays, and subscribers are still called.

    .. versionadded:: 0.2
    """
    watching.is_enabled = False
    watching.switch()


def is_enabled() -> bool:
    """Return whether ``enable()`` was called, by the setting too.

    .. versionadded:: 0.2
    """
    return watching.is_enabled


def reset() -> None:
    """Set all counts back to zero.

    .. versionadded:: 0.2
    """
    rows.reset()


def subscribe(
    function: Callable[[Call], object], slower_than: float = 0.005
) -> Subscription:
    """Have ``function`` called with a ``Call`` after each slow call of a receiver.

    It is called in the thread that called the receiver, in a copy of the same context
    (``contextvars``), right after that has returned or raised, before the next receiver
    is called. What it sends isn't watched. An ``Exception`` that it raises is logged to
    the logger ``altdispatch``, and not raised.

    Arguments:

        function
            A function with one argument.

        slower_than
            Report only calls that take at least this many seconds; 0 reports all.

    Return a ``Subscription``. Until that is ended, receivers are counted and timed also
    without ``enable()``. Raise ``ValueError`` if ``slower_than`` is negative.

    .. versionadded:: 0.2
    """
    if not slower_than >= 0:
        raise ValueError(f"slower_than must not be negative: {slower_than!r}.")
    subscription = Subscription()
    subscribers.add(subscription, function, slower_than)
    watching.switch()
    return subscription


def snapshot() -> Snapshot:
    """Return what was counted so far.

    Threads that send meanwhile are not stopped: single counts may be ahead of others.

    .. versionadded:: 0.2
    """
    signal_rows = [*rows.signals.copy().values()]
    rows.name_rows(signal_rows)
    found = [_sum_up_signal(row) for row in signal_rows if row.name is not None]
    used = [signal for signal in found if signal.sends or signal.receivers]
    return Snapshot(tuple(sorted(used, key=lambda signal: signal.name)))


def _sum_up_signal(row: rows.SignalRow) -> SignalStats:
    return SignalStats(
        row.name or "",
        row.counts[rows.SENDS],
        row.counts[rows.UNHEARD],
        tuple(
            _sum_up_receiver(receiver)
            for receiver in row.receivers.copy().values()
            if receiver.counts[rows.CALLS]
        ),
    )


def _sum_up_receiver(row: rows.ReceiverRow) -> ReceiverStats:
    counts = row.counts.tolist()
    return ReceiverStats(
        row.name,
        row.place,
        row.is_async,
        counts[rows.CALLS],
        counts[rows.ERRORS],
        counts[rows.TOTAL] / 1e9,
        counts[rows.LONGEST] / 1e9,
        counts[rows.OWN] / 1e9,
        tuple(zip(_BOUNDS, counts[rows.BUCKETS :], strict=True)),
    )
