"""Helpers to mute, connect and record signals, in programs and in tests.

They work with every signal, on stock Django as well as swapped, and are called alike:
with the signals, and with ``senders`` if only some of these are meant.
"""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from types import FunctionType, MethodType, TracebackType
from typing import Any, Generic, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.dispatch import Signal

from .naming import is_on_commit
from .senders import check_sender, find_sender

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

        is_async = iscoroutinefunction(function)
        return cast(F, call_async if is_async else call)


def muted(
    *signals: Signal,
    senders: Iterable[object] | None = None,
    receivers: Iterable[Receiver] | None = None,
) -> Block[None]:
    """Have ``signals`` call no receivers, as if none were connected.

    With ``senders``, only those signals that these send; a model can be written as
    ``"app.Model"``. With ``receivers``, only these are not called; a task that is
    connected is given as such, or as its function.

    It is so in the thread or task that has entered the block, and in what that starts
    from within as a task of asyncio, by ``asyncio.to_thread()`` or by asgiref. The
    signals of other threads, say of other requests, get to their receivers; so do those
    of ``loop.run_in_executor()``, which doesn't copy the context. Blocks nest, in any
    order. What is connected or disconnected meanwhile stays so.

    Raise ``TypeError`` if there is no signal, or if something can't be a signal, sender
    or receiver, and ``ValueError`` for a string that isn't like ``"app.Model"``.
    Entering the block raises ``LookupError`` if there is no such model.

    .. versionadded:: 0.2
    """
    _check_signals(signals)
    return Block(partial(_mute, signals, _senders(senders), _receivers(receivers)))


@contextmanager
def _mute(
    signals: Iterable[Signal],
    senders: list[object] | None,
    receivers: list[Receiver] | None,
) -> Iterator[None]:
    block = object()
    is_sender_meant = _sender_test(senders)

    def is_given(receiver: Receiver) -> bool:
        return any(_is_same(receiver, each) for each in receivers or ())

    def is_muted(receiver: Any) -> bool:
        # Monitoring wraps what is connected.
        receiver = inspect.unwrap(receiver, stop=is_given)
        return is_given(receiver) or (
            is_on_commit(receiver) and is_muted(receiver.__self__)
        )

    def find(method: Receiver, sender: object) -> Any:
        if block not in _muted.get() or not is_sender_meant(sender):
            return method(sender)
        if receivers is None:
            return [], []
        return tuple(
            [each for each in found if not is_muted(each)] for found in method(sender)
        )

    with ExitStack() as stack:
        for signal in signals:
            stack.enter_context(_in_place_of(signal, "_live_receivers", find))
        _muted.set(_muted.get() | {block})
        try:
            yield
        finally:
            _muted.set(_muted.get() - {block})


def connected(
    receiver: Receiver, *signals: Signal, senders: Iterable[object] | None = None
) -> Block[Receiver]:
    """Have ``receiver`` connected to ``signals``.

    With ``senders``, only for these; a model can be written as ``"app.Model"``, with
    every signal.

    It's a connection of its own, whatever else is connected: where the receiver is so
    already, it's called once more, and stays connected after the block. The receiver
    is kept alive, and is what ``with`` gives.

    Raise what :func:`muted` does. With ``settings.DEBUG``, entering the block raises
    what ``connect()`` does for what can't be a receiver.

    .. versionadded:: 0.2
    """
    _check_receiver(receiver)
    _check_signals(signals)
    return Block(partial(_connect, receiver, signals, _senders(senders)))


@contextmanager
def _connect(
    receiver: Receiver, signals: Iterable[Signal], senders: list[object] | None
) -> Iterator[Receiver]:
    uid = object()
    each_sender = [None] if senders is None else [*map(find_sender, senders)]
    with ExitStack() as stack:
        for signal, sender in itertools.product(signals, each_sender):
            signal.connect(receiver, sender=sender, weak=False, dispatch_uid=uid)
            stack.callback(signal.disconnect, sender=sender, dispatch_uid=uid)
        yield receiver


@dataclass
class Sent:
    """One send, as ``recorded()`` keeps it.

    Attributes:

        signal, sender, named
            What was sent, and with what.
        method
            The name of the method that was called, such as ``"send_robust"``.
        answers
            What it returned, a list of ``(receiver, response)``; empty while it goes
            on, and if it raised.
        error
            What it raised, or None.

    .. versionadded:: 0.2
    """

    signal: Signal
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
    *signals: Signal, senders: Iterable[object] | None = None
) -> Block[list[Sent]]:
    """Write down what ``signals`` send, and what comes of it.

    With ``senders``, only what these send; a model can be written as ``"app.Model"``.
    The list that ``with`` gives has a ``Sent`` for each send that began in the block,
    in any thread and in that order, also for those that call no receiver. It's there to
    be read after the block, too.

    Raise what :func:`muted` does.

    .. versionadded:: 0.2
    """
    _check_signals(signals)
    return Block(partial(_record, signals, _senders(senders)))


@contextmanager
def _record(
    signals: Iterable[Signal], senders: list[object] | None
) -> Iterator[list[Sent]]:
    sends: list[Sent] = []
    is_sender_meant = _sender_test(senders)

    @contextmanager
    def write(
        signal: Signal, method: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Iterator[Sent]:
        named = dict(named)
        sender = args[0] if args else named.pop("sender", None)
        sent = Sent(signal, sender, named, method)
        if is_sender_meant(sender):
            sends.append(sent)
        try:
            yield sent
        except BaseException as error:
            sent.error = error
            raise

    # Signals may have arguments of these names.
    def send(
        signal: Signal, name: str, method: Receiver, /, *args: Any, **named: Any
    ) -> Any:
        with write(signal, name, args, named) as sent:
            sent.answers = method(*args, **named)
        return sent.answers

    async def asend(
        signal: Signal, name: str, method: Receiver, /, *args: Any, **named: Any
    ) -> Any:
        with write(signal, name, args, named) as sent:
            sent.answers = await method(*args, **named)
        return sent.answers

    writers = {"send": send, "send_robust": send, "asend": asend, "asend_robust": asend}
    with ExitStack() as stack:
        for signal, (name, writer) in itertools.product(signals, writers.items()):
            function = partial(writer, signal, name)
            stack.enter_context(_in_place_of(signal, name, function))
        yield sends


def _check_signals(signals: tuple[Any, ...]) -> None:
    """Raise TypeError unless there are signals, and nothing else."""
    if not signals:
        raise TypeError("There must be at least one signal.")
    for signal in signals:
        if not isinstance(signal, Signal):
            raise TypeError(f"{signal!r} is not a signal.")


def _check_receiver(receiver: object) -> None:
    if not callable(receiver):
        raise TypeError(f"{receiver!r} is not a receiver: it can't be called.")


def _list(name: str, given: Iterable[T] | None) -> list[T] | None:
    """Return the values of an argument that may be left out."""
    if given is None:
        return None
    # A string or class would be taken for its characters or members.
    if isinstance(given, (str, bytes, type)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be a list, not {given!r}. Write {name}=[...].")
    return [*given]


def _senders(given: Iterable[object] | None) -> list[object] | None:
    senders = _list("senders", given)
    for sender in senders or ():
        check_sender(sender)
    return senders


def _receivers(given: Iterable[Receiver] | None) -> list[Receiver] | None:
    receivers = _list("receivers", given)
    if receivers is None:
        return None
    functions = [_function_of(receiver) for receiver in receivers]
    for function in functions:
        _check_receiver(function)
    return functions


def _function_of(receiver: Any) -> Any:
    """Return the function of a task; return anything else unchanged."""
    # Without importing tasks, which pytest would do for the fixtures.
    return receiver if callable(receiver) else getattr(receiver, "func", receiver)


def _sender_test(senders: Iterable[object] | None) -> Callable[[object], bool]:
    """Return a function that tells whether a sender is one of these."""
    if senders is None:
        return lambda sender: True
    meant = [*map(find_sender, senders)]
    return lambda sender: any(sender is each for each in meant)


def _is_same(one: Receiver, other: Receiver) -> bool:
    """Return whether a signal takes both for the same receiver."""
    # A method is another object each time.
    return one is other or (isinstance(one, MethodType) and one == other)


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

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
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
