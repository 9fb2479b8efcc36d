"""What projects and their tests write by hand around signals, written once.

It works on stock Django as well as swapped, with every signal.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from types import FunctionType, TracebackType
from typing import Any, Generic, TypeVar, cast

from django.dispatch import Signal

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Receiver = Callable[..., Any]

_lock = threading.Lock()
# What is muted where this code runs, by an object for each block.
_muted: ContextVar[frozenset[object]] = ContextVar("muted", default=frozenset())


class Block(Generic[T]):
    """Something that holds in a block, or while a decorated function runs.

    Stands in ``with`` and ``async with``, and decorates functions and coroutine
    functions, each call of which has one of its own. It can be used again, but not
    while it holds: that's a ``RuntimeError``. What is decorated must be a function
    and no generator, or it's a ``TypeError``.

    .. versionadded:: 0.2
    """

    def __init__(self, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._make = make
        self._held: AbstractContextManager[T] | None = None

    def __enter__(self) -> T:
        if self._held is not None:
            raise RuntimeError("This block holds already. Make another one.")
        held = self._make()
        value = held.__enter__()
        self._held = held
        return value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        held, self._held = self._held, None
        if held is None:
            raise RuntimeError("This block doesn't hold.")
        held.__exit__(kind, error, traceback)

    async def __aenter__(self) -> T:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        if (
            not isinstance(function, FunctionType)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            raise TypeError(
                f"{function!r} can't be decorated: only functions can that are no "
                "generators. Use a with statement."
            )

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._make():
                return function(*args, **kwargs)

        @wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with self._make():
                return await function(*args, **kwargs)

        is_async = inspect.iscoroutinefunction(function)
        return cast(F, call_async if is_async else call)


def muted(*signals: Signal, senders: Iterable[object] | None = None) -> Block[None]:
    """Have ``signals`` call nobody, as if nothing were connected to them.

    With ``senders``, only what these send. It is so in the thread or task that has
    entered the block, and in what that starts from within through asyncio or asgiref:
    the signals of other threads, say of other requests, get to their receivers. Blocks
    nest, in any order. What is connected or disconnected meanwhile stays so.

    Raise ``TypeError`` if there is no signal, or something else among them.

    .. versionadded:: 0.2
    """
    _check(signals)
    return Block(partial(_mute, signals, None if senders is None else [*senders]))


@contextmanager
def _mute(signals: Iterable[Signal], senders: list[object] | None) -> Iterator[None]:
    block = object()

    def find(method: Receiver, sender: object) -> Any:
        is_meant = senders is None or any(sender is each for each in senders)
        return ([], []) if is_meant and block in _muted.get() else method(sender)

    with ExitStack() as stack:
        for signal in signals:
            stack.enter_context(_in_place_of(signal, "_live_receivers", find))
        _muted.set(_muted.get() | {block})
        try:
            yield
        finally:
            _muted.set(_muted.get() - {block})


def connected(
    signals: Signal | list[Signal] | tuple[Signal, ...],
    receiver: Receiver,
    sender: object = None,
) -> Block[Receiver]:
    """Have ``receiver`` connected to a signal, or to each of several.

    It's a connection of its own, whatever else is connected: where the receiver is so
    already, it's called once more, and stays connected after the block. The receiver
    is kept alive, and is what ``with`` gives. ``sender`` is what ``connect()`` takes.

    Raise ``TypeError`` if something isn't a signal. With ``settings.DEBUG``, entering
    it raises what ``connect()`` does for what can't be a receiver.

    .. versionadded:: 0.2
    """
    each = signals if isinstance(signals, (list, tuple)) else (signals,)
    _check(each)
    return Block(partial(_connect, each, receiver, sender))


@contextmanager
def _connect(
    signals: Iterable[Signal], receiver: Receiver, sender: object
) -> Iterator[Receiver]:
    uid = object()
    with ExitStack() as stack:
        for signal in signals:
            signal.connect(receiver, sender=sender, weak=False, dispatch_uid=uid)
            stack.callback(signal.disconnect, sender=sender, dispatch_uid=uid)
        yield receiver


@dataclass
class Sent:
    """One send, as ``recorded()`` keeps it.

    Attributes:

        sender, named
            What was given to it.
        method
            The name of the method that was called, such as ``"send_robust"``.
        answers
            What it returned, a list of ``(receiver, response)``; empty while it goes
            on, and if it raised.
        error
            What it raised, or None.

    .. versionadded:: 0.2
    """

    sender: object
    named: dict[str, Any]
    method: str
    answers: list[tuple[Receiver, Any]] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def receivers(self) -> list[Receiver]:
        """Those that were called and have answered, in their order."""
        return [receiver for receiver, _ in self.answers]


def recorded(
    signal: Signal, senders: Iterable[object] | None = None
) -> Block[list[Sent]]:
    """Write down what a signal sends, and what comes of it.

    With ``senders``, only what these send. The list that ``with`` gives has a
    ``Sent`` for each send that began in the block, in any thread and in that order,
    also for those that call nobody. It's there to be read after the block, too.

    Raise ``TypeError`` if it isn't a signal.

    .. versionadded:: 0.2
    """
    _check([signal])
    return Block(partial(_record, signal, None if senders is None else [*senders]))


@contextmanager
def _record(signal: Signal, senders: list[object] | None) -> Iterator[list[Sent]]:
    sends: list[Sent] = []

    @contextmanager
    def write(
        method: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Iterator[Sent]:
        named = dict(named)
        sender = args[0] if args else named.pop("sender", None)
        sent = Sent(sender, named, method)
        if senders is None or any(sender is each for each in senders):
            sends.append(sent)
        try:
            yield sent
        except BaseException as error:
            sent.error = error
            raise

    def send(name: str, method: Receiver, *args: Any, **named: Any) -> Any:
        with write(name, args, named) as sent:
            sent.answers = method(*args, **named)
        return sent.answers

    async def asend(name: str, method: Receiver, *args: Any, **named: Any) -> Any:
        with write(name, args, named) as sent:
            sent.answers = await method(*args, **named)
        return sent.answers

    with ExitStack() as stack:
        for name in ("send", "send_robust"):
            stack.enter_context(_in_place_of(signal, name, partial(send, name)))
        for name in ("asend", "asend_robust"):
            stack.enter_context(_in_place_of(signal, name, partial(asend, name)))
        yield sends


def _check(signals: Iterable[Any]) -> None:
    """Raise TypeError unless there are signals, and nothing else."""
    if not signals:
        raise TypeError("There must be at least one signal.")
    for signal in signals:
        if not isinstance(signal, Signal):
            raise TypeError(f"{signal!r} is not a signal.")


class _Stack:
    """What is called in the place of a method of one signal: the last one that came.

    Each gets, as its first argument, what would be called without it.
    """

    def __init__(self, signal: Signal, name: str) -> None:
        self.signal = signal
        self.name = name
        # What somebody has put there, if anything: the class's may change meanwhile.
        self.own = vars(signal).get(name)
        self.functions: list[Receiver] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self.own or partial(getattr(type(self.signal), self.name), self.signal)
        for function in [*self.functions]:
            method = partial(function, method)
        return method(*args, **kwargs)

    def remove(self, function: Receiver) -> None:
        self.functions.remove(function)
        if self.functions or vars(self.signal).get(self.name) is not self:
            return
        if self.own is None:
            delattr(self.signal, self.name)
        else:
            setattr(self.signal, self.name, self.own)


@contextmanager
def _in_place_of(signal: Signal, name: str, function: Receiver) -> Iterator[None]:
    """Have ``function`` called in the place of a method of one signal."""
    with _lock:
        stack = vars(signal).get(name)
        if not isinstance(stack, _Stack):
            stack = _Stack(signal, name)
            setattr(signal, name, stack)
        stack.functions.append(function)
    try:
        yield
    finally:
        with _lock:
            stack.remove(function)
