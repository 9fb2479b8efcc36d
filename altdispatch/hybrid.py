"""Receivers that have a synchronous and an asynchronous side.

``send()`` calls the one and ``asend()`` awaits the other, so neither has to change
threads. On stock Django, such a receiver is its synchronous side.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import update_wrapper
from types import MethodType
from typing import Any

from asgiref.sync import iscoroutinefunction

from . import dispatcher
from .dispatcher import Receiver, Responses, Signal, call_in_thread, watch

AsyncReceiver = Callable[..., Awaitable[Any]]


class hybrid:
    """Make a receiver that ``send()`` calls and ``asend()`` awaits.

    Arguments:

        synchronous
            A callable: what ``send()`` and ``send_robust()`` call, and a call of the
            hybrid receiver itself.

        asynchronous
            A coroutine function, which takes the same arguments: what ``asend()`` and
            ``asend_robust()`` await in place of ``synchronous``. If it's left out, set
            it with the decorator :meth:`asynchronous`; until then they call
            ``synchronous`` in the thread for synchronous code.

    Also decorates functions and methods. Connect it as any other receiver: weakly, it
    lives as long as something else refers to it; a method of it, as long as its object.

    Raise ``TypeError`` if ``synchronous`` can't be called, is a coroutine function, a
    class method or a static method, or if ``asynchronous`` isn't a coroutine function.

    .. versionadded:: 0.2
    """

    def __init__(
        self, synchronous: Receiver, asynchronous: AsyncReceiver | None = None
    ) -> None:
        if isinstance(synchronous, (classmethod, staticmethod)):
            raise TypeError(f"Put @{type(synchronous).__name__} above @hybrid.")
        if not callable(synchronous) or iscoroutinefunction(synchronous):
            raise TypeError(f"{synchronous!r} is not a synchronous receiver.")
        update_wrapper(self, synchronous)
        # A callable object may have an attribute of that name, which is copied.
        vars(self).pop("asynchronous", None)
        self._is_in_class = False
        self._synchronous = synchronous
        self._asynchronous: AsyncReceiver | None = None
        if asynchronous is not None:
            self.asynchronous(asynchronous)
        # Sends don't look for hybrid receivers before there is one.
        dispatcher.call_synchronous = call_in_order

    def asynchronous(self, function: AsyncReceiver) -> hybrid:
        """Set the asynchronous side, as a decorator; return the hybrid receiver.

        Give the function the name of the hybrid receiver, as for the setter of a
        property; another name becomes a second one of the receiver. From a subclass, as
        ``@Base.receive.asynchronous``, return another hybrid receiver, with the same
        synchronous side, and leave that of the base as it is.

        Raise ``TypeError`` if it isn't a coroutine function, or if there is an
        asynchronous side already.
        """
        if not iscoroutinefunction(function):
            raise TypeError(f"{function!r} is not a coroutine function.")
        if self._is_in_class:
            return type(self)(self._synchronous, function)
        if self._asynchronous is not None:
            raise TypeError(f"{self!r} has an asynchronous side already.")
        self._asynchronous = function
        return self

    def __set_name__(self, owner: type, name: str) -> None:
        self._is_in_class = True

    def __reduce__(self) -> Any:
        # As functions are pickled and copied: by name.
        return getattr(self, "__qualname__", None) or super().__reduce__()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._synchronous(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)


def find_asynchronous(receiver: Any) -> AsyncReceiver | None:
    """Return the asynchronous side of a receiver, or None if it has none."""
    if type(receiver) is MethodType:
        side = find_asynchronous(receiver.__func__)
        return None if side is None else MethodType(side, receiver.__self__)
    is_hybrid = issubclass(type(receiver), hybrid)
    return receiver._asynchronous if is_hybrid else None


def call_in_order(
    signal: Signal,
    sender: Any,
    named: dict[str, Any],
    receivers: list[Receiver],
    method: str,
) -> Awaitable[Responses]:
    """Return the responses to ``asend()`` of what ``send()`` would call first."""
    # A patched look-up may have found them in something that is read once.
    if type(receivers) is list:
        routes = [(receiver, find_asynchronous(receiver)) for receiver in receivers]
        if any(side is not None for _, side in routes):
            return _call_in_order(signal, sender, named, routes, method)
    return call_in_thread(signal, sender, named, receivers, method)


async def _call_in_order(
    signal: Signal,
    sender: Any,
    named: dict[str, Any],
    routes: list[tuple[Receiver, AsyncReceiver | None]],
    method: str,
) -> Responses:
    responses: Responses = []
    # Those without an asynchronous side, up to one that has it.
    in_thread: list[Receiver] = []
    for receiver, side in routes:
        if side is None:
            in_thread.append(receiver)
            continue
        if in_thread:
            responses += await call_in_thread(signal, sender, named, in_thread, method)
            in_thread = []
        response: Any
        try:
            with watch(signal, sender, side, is_async=True):
                response = await side(signal=signal, sender=sender, **named)
        except Exception as error:
            if method == "asend":
                raise
            signal._log_robust_failure(receiver, error)
            response = error
        responses.append((receiver, response))
    if in_thread:
        responses += await call_in_thread(signal, sender, named, in_thread, method)
    return responses
