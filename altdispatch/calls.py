"""Calls of receivers, and the subscribers that get the slow ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

from .rows import Clock, find_receiver, name_signal

logger = logging.getLogger("altdispatch")

#: No call takes as many nanoseconds.
NEVER = 2**63 - 1


@dataclass(frozen=True)
class Call:
    """One call of a receiver, as subscribers get it.

    Attributes:

        signal, sender, receiver
            The signal that was sent, its sender, and what was called: the receiver that
            is connected, or a wrapper that a monitoring agent has put in its place.
        start
            When the call began, in seconds, on the scale of ``time.perf_counter()``.
        start_ns
            The same, in nanoseconds, on the scale of ``time.time_ns()``.
        duration
            How many seconds it took.
        own
            The same without the receivers that were called inside it.
        error
            What it raised; None if it returned.
        is_async
            Whether the receiver is asynchronous. ``duration`` is from start to end
            then, with all that it waited for.

    .. versionadded:: 0.2
    """

    signal: Any
    sender: Any
    receiver: Any
    start: float
    start_ns: int
    duration: float
    own: float
    error: BaseException | None
    is_async: bool

    @property
    def signal_name(self) -> str:
        """The name of the signal, as ``snapshot()`` has it.

        .. versionadded:: 0.2
        """
        return name_signal(self.signal)

    @property
    def receiver_name(self) -> str:
        """The name of the receiver, as ``snapshot()`` has it.

        .. versionadded:: 0.2
        """
        return find_receiver(self.signal, self.receiver).name

    @property
    def place(self) -> str | None:
        """Where the receiver is written, ``"file:line"``; None if that isn't known.

        .. versionadded:: 0.2
        """
        return find_receiver(self.signal, self.receiver).place


class Subscribers:
    """The functions that are called after slow calls.

    Attributes:

        limit
            The nanoseconds from which on at least one of them gets a call.
    """

    def __init__(self) -> None:
        self.limit = NEVER
        self._all: dict[object, tuple[int, Callable[[Call], object]]] = {}

    def add(
        self, key: object, function: Callable[[Call], object], slower_than: float
    ) -> None:
        """Have a function called with calls that take so many seconds, or more."""
        self._all[key] = round(min(slower_than * 1e9, NEVER)), function
        self._set_limit()

    def remove(self, key: object) -> None:
        """Have it called no more; it may have been removed already."""
        self._all.pop(key, None)
        self._set_limit()

    def _set_limit(self) -> None:
        limits = [limit for limit, _ in self._all.copy().values()]
        self.limit = min(limits, default=NEVER)

    def __len__(self) -> int:
        return len(self._all)

    def tell(self, call: Call) -> None:
        """Call those that want to know of a call."""
        # A copy: a subscriber may unsubscribe itself.
        for limit, function in self._all.copy().values():
            if call.duration * 1e9 >= limit:
                try:
                    function(call)
                except Exception:
                    logger.exception("A subscriber of altdispatch.monitoring failed.")


subscribers = Subscribers()

#: Whether a subscriber is being called: what it sends isn't watched.
is_silent: ContextVar[bool] = ContextVar("altdispatch_is_silent", default=False)


# Of an error: its class may have attributes of these names.
_PARTS: list[Any] = [
    vars(BaseException)[name]
    for name in ("__cause__", "__context__", "__suppress_context__", "__traceback__")
]


def report(
    signal: Any,
    sender: Any,
    receiver: Any,
    error: BaseException | None,
    start: int,
    duration: int,
    own: int,
    is_async: bool = False,
) -> None:
    """Tell the subscribers of a call; times are in nanoseconds."""
    if is_silent.get():
        return
    call = Call(
        signal,
        sender,
        receiver,
        start / 1e9,
        Clock.convert(start),
        duration / 1e9,
        own / 1e9,
        error,
        is_async,
    )
    # Subscribers may raise it again, say to log it.
    parts = [] if error is None else [part.__get__(error) for part in _PARTS]
    try:
        # In a copy, which nothing has to be set back in if this is interrupted.
        copy_context().run(_tell, call)
    finally:
        for part, value in zip(_PARTS, parts, strict=False):
            # On PyPy, a context that was set stays when the error is raised again.
            if part.__get__(error) is not value:
                part.__set__(error, value)


def _tell(call: Call) -> None:
    is_silent.set(True)
    subscribers.tell(call)
