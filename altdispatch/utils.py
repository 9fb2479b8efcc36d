"""Mute, connect and record signals for the length of a block, in programs and tests.

The helpers work with every signal, on stock Django as well as swapped. All of them take
the signals, and ``senders`` to limit them to some senders.
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
# The blocks of muted() that are active in the current context, an object for each.
_muted: ContextVar[frozenset[object]] = ContextVar("muted", default=frozenset())


class Block(Generic[T]):
    """A context manager and decorator, for synchronous and asynchronous code.

    Use it in ``with`` and ``async with``, or decorate functions and coroutine functions
    with it: each call then enters a block of its own. You can use it again, but not
    while it is active: that raises ``RuntimeError``. Decorating anything but a
    function, or a generator function, raises ``TypeError``.

    .. versionadded:: 0.2
    """

    def __init__(self, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._make = make
        self._active: AbstractContextManager[T] | None = None

    def __enter__(self) -> T:
        if self._active is not None:
            raise RuntimeError("This block is active already. Make another one.")
        active = self._make()
        value = active.__enter__()
        self._active = active
        return value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        active, self._active = self._active, None
        if active is None:
            raise RuntimeError("This block is not active.")
        active.__exit__(kind, error, traceback)

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
                f"{function!r} can't be decorated: it is not a function, or it is a "
                "generator function. Use a with statement."
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

    With ``senders``, mute only what these senders send; you can write a model as
    ``"app.Model"``. With ``receivers``, mute only these receivers; for a connected
    task, give the task or its function.

    It applies to the thread or task that enters the block, and to what that starts in
    the block as an asyncio task, with ``asyncio.to_thread()`` or with asgiref. Signals
    sent by other threads, for example in other requests, still reach their receivers.
    So do those sent in ``loop.run_in_executor()``, which doesn't copy the context.
    Blocks can be nested, and can end in any order. What you connect or disconnect in a
    block stays connected or disconnected.

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
    is_sender_matched = _sender_filter(senders)

    def is_given(receiver: Receiver) -> bool:
        return any(_is_same(receiver, each) for each in receivers or ())

    def is_muted(receiver: Any) -> bool:
        # Monitoring agents wrap receivers.
        receiver = inspect.unwrap(receiver, stop=is_given)
        return is_given(receiver) or (
            is_on_commit(receiver) and is_muted(receiver.__self__)
        )

    def find(method: Receiver, sender: object) -> Any:
        if block not in _muted.get() or not is_sender_matched(sender):
            return method(sender)
        if receivers is None:
            return [], []
        return tuple(
            [each for each in found if not is_muted(each)] for found in method(sender)
        )

    with ExitStack() as stack:
        for signal in signals:
            stack.enter_context(_overridden(signal, "_live_receivers", find))
        _muted.set(_muted.get() | {block})
        try:
            yield
        finally:
            _muted.set(_muted.get() - {block})


def connected(
    receiver: Receiver, *signals: Signal, senders: Iterable[object] | None = None
) -> Block[Receiver]:
    """Connect ``receiver`` to ``signals`` until the block ends.

    With ``senders``, connect it for these senders only; you can write a model as
    ``"app.Model"``, with every signal.

    The connection is independent of others: a receiver that is connected already is
    called once more, and stays connected after the block. The block keeps the receiver
    alive, and ``with`` returns it.

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
    """A send that ``recorded()`` has recorded.

    Attributes:

        signal, sender, named
            The signal, its sender and the keyword arguments.
        method
            The name of the method that was called, such as ``"send_robust"``.
        answers
            The list of ``(receiver, response)`` that the method returned. It is empty
            until then, and if the method raised an error.
        error
            The error that the method raised, or None.

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
        """The receivers in ``answers``, in the order of the calls."""
        return [receiver for receiver, _ in self.answers]


def recorded(
    *signals: Signal, senders: Iterable[object] | None = None
) -> Block[list[Sent]]:
    """Record the sends of ``signals``, with their responses and errors.

    With ``senders``, record only what these senders send; you can write a model as
    ``"app.Model"``. The list that ``with`` returns has a ``Sent`` for each send that
    began in the block, in the order in which they began, from every thread, and also if
    no receiver was called. You can read it after the block, too.

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
    is_sender_matched = _sender_filter(senders)

    @contextmanager
    def record(
        signal: Signal, method: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Iterator[Sent]:
        named = dict(named)
        sender = args[0] if args else named.pop("sender", None)
        sent = Sent(signal, sender, named, method)
        if is_sender_matched(sender):
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
        with record(signal, name, args, named) as sent:
            sent.answers = method(*args, **named)
        return sent.answers

    async def asend(
        signal: Signal, name: str, method: Receiver, /, *args: Any, **named: Any
    ) -> Any:
        with record(signal, name, args, named) as sent:
            sent.answers = await method(*args, **named)
        return sent.answers

    recorders = {
        "send": send,
        "send_robust": send,
        "asend": asend,
        "asend_robust": asend,
    }
    with ExitStack() as stack:
        for signal, (name, recorder) in itertools.product(signals, recorders.items()):
            function = partial(recorder, signal, name)
            stack.enter_context(_overridden(signal, name, function))
        yield sends


def _check_signals(signals: tuple[Any, ...]) -> None:
    """Raise TypeError if there is no signal, or something else than a signal."""
    if not signals:
        raise TypeError("There must be at least one signal.")
    for signal in signals:
        if not isinstance(signal, Signal):
            raise TypeError(f"{signal!r} is not a signal.")


def _check_receiver(receiver: object) -> None:
    if not callable(receiver):
        raise TypeError(f"{receiver!r} is not a receiver: it can't be called.")


def _list(name: str, given: Iterable[T] | None) -> list[T] | None:
    """Return an optional argument as a list, or None if it is left out."""
    if given is None:
        return None
    # Iterating would give the characters of a string, or the members of a class.
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
    # By the attribute: importing tasks.py here would import it in every run of pytest.
    return receiver if callable(receiver) else getattr(receiver, "func", receiver)


def _sender_filter(senders: Iterable[object] | None) -> Callable[[object], bool]:
    """Return a function that returns whether a sender is one of ``senders``."""
    if senders is None:
        return lambda sender: True
    found = [*map(find_sender, senders)]
    return lambda sender: any(sender is each for each in found)


def _is_same(one: Receiver, other: Receiver) -> bool:
    """Return whether a signal takes both for the same receiver."""
    # Each access to a bound method makes another object.
    return one is other or (isinstance(one, MethodType) and one == other)


class _Override:
    """Overrides a method of one signal with functions, the last one added first.

    Each function gets the method that it overrides as its first argument.
    """

    def __init__(self, signal: Signal, name: str) -> None:
        self.signal = signal
        self.name = name
        # The method that a program has set on the signal itself, if any. That of the
        # class isn't kept, as it may change meanwhile.
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
def _overridden(signal: Signal, name: str, function: Receiver) -> Iterator[None]:
    """Override a method of one signal with ``function``."""
    with _lock:
        override = vars(signal).get(name)
        if not isinstance(override, _Override):
            override = _Override(signal, name)
            setattr(signal, name, override)
        override.functions.append(function)
    try:
        yield
    finally:
        with _lock:
            override.remove(function)
