"""Who uses which signal how often, and how long its receivers take."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.dispatch import Signal

Receiver = Callable[..., Any]


@dataclass(frozen=True)
class Kind:
    """Uses of a signal that cost the same: how it was used, with how many receivers.

    Attributes:

        method
            The name of the one that was called.
        use_caching
            Whether the signal keeps the receivers of a sender.
        connected
            How many it had, those of other senders too.
        receivers, async_receivers
            How many of them were the sender's, of each sort.
        names
            How many arguments were given beside the sender.
    """

    method: str
    use_caching: bool
    connected: int
    receivers: int
    async_receivers: int
    names: int


class Counts:
    """What is done with Django's signals in a block of ``counting()``.

    Attributes:

        kinds
            By signal, how often each kind of use was made of it.
        seconds
            By signal, how long its receivers took, with all that they did.
        outer_seconds
            How long all those took together that no other receiver called.
    """

    def __init__(self) -> None:
        self.kinds: defaultdict[Signal, Counter[Kind]] = defaultdict(Counter)
        self.seconds: defaultdict[Signal, float] = defaultdict(float)
        self.outer_seconds = 0.0
        self._lock = threading.Lock()
        # How many receivers of each sort the use that goes on has found, and whether
        # a receiver made it.
        self._found: ContextVar[list[int] | None] = ContextVar("found", default=None)
        self._is_inside: ContextVar[bool] = ContextVar("is_inside", default=False)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count in the block, in all threads."""
        with ExitStack() as stack:
            for name in ("send", "send_robust"):
                stack.enter_context(_patched(name, self._send))
            for name in ("asend", "asend_robust"):
                stack.enter_context(_patched(name, self._asend))
            stack.enter_context(_patched("has_listeners", self._ask))
            stack.enter_context(_patched("_live_receivers", self._find))
            yield

    # Signals may have arguments of any name.
    def _send(
        self, method: Receiver, signal: Signal, /, *args: Any, **named: Any
    ) -> Any:
        with self._use(method, signal, args, named):
            return _unwrapped(method(signal, *args, **named))

    async def _asend(
        self, method: Receiver, signal: Signal, /, *args: Any, **named: Any
    ) -> Any:
        with self._use(method, signal, args, named):
            return _unwrapped(await method(signal, *args, **named))

    def _ask(
        self, method: Receiver, signal: Signal, /, *args: Any, **named: Any
    ) -> Any:
        with self._use(method, signal, args, named):
            return method(signal, *args, **named)

    def _find(self, method: Receiver, signal: Signal, sender: Any) -> Any:
        receivers, async_receivers = method(signal, sender)
        if (found := self._found.get()) is not None:
            found[:] = len(receivers), len(async_receivers)
        return (
            [self._timed(signal, receiver) for receiver in receivers],
            [self._timed_async(signal, receiver) for receiver in async_receivers],
        )

    @contextmanager
    def _use(
        self,
        method: Receiver,
        signal: Signal,
        args: tuple[Any, ...],
        named: dict[str, Any],
    ) -> Iterator[None]:
        found = [0, 0]
        token = self._found.set(found)
        try:
            yield
        finally:
            self._found.reset(token)
            kind = Kind(
                method=method.__name__,
                use_caching=signal.use_caching,
                connected=len(signal.receivers),
                receivers=found[0],
                async_receivers=found[1],
                names=max(len(args) + len(named) - 1, 0),
            )
            with self._lock:
                self.kinds[signal][kind] += 1

    def _timed(self, signal: Signal, receiver: Receiver) -> Receiver:
        @functools.wraps(receiver)
        def call(*args: Any, **named: Any) -> Any:
            with self._timing(signal):
                return receiver(*args, **named)

        return call

    def _timed_async(self, signal: Signal, receiver: Receiver) -> Receiver:
        @functools.wraps(receiver)
        async def call(*args: Any, **named: Any) -> Any:
            with self._timing(signal):
                return await receiver(*args, **named)

        return call

    @contextmanager
    def _timing(self, signal: Signal) -> Iterator[None]:
        is_inside = self._is_inside.get()
        token = self._is_inside.set(True)
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._is_inside.reset(token)
            with self._lock:
                self.seconds[signal] += seconds
                if not is_inside:
                    self.outer_seconds += seconds


@contextmanager
def _patched(name: str, patch: Receiver) -> Iterator[None]:
    """Have ``patch`` called in the place of a method, with that as an argument."""
    original = vars(Signal)[name]

    @functools.wraps(original)
    def method(signal: Signal, /, *args: Any, **named: Any) -> Any:
        return patch(original, signal, *args, **named)

    setattr(Signal, name, method)
    try:
        yield
    finally:
        setattr(Signal, name, original)


def _unwrapped(responses: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return the responses with the receivers that were connected."""
    return [(receiver.__wrapped__, response) for receiver, response in responses]
