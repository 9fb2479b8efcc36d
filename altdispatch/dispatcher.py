"""``Signal`` and ``receiver``, in Python."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import django.conf
import django.dispatch.dispatcher
from asgiref.sync import sync_to_async

from . import asgi
from . import receivers as routing
from .releases import (
    OUTLIVES_CONNECT,
    SYNC_RECEIVERS_FIRST,
    WATCHES_SENDERS,
)
from .together import run_by_django, run_together

#: Django's own dispatcher. What that takes from its module is looked up there when
#: it is used, as programs and tests replace it there.
stock: Any = django.dispatch.dispatcher

# On a Django that altdispatch doesn't know they may be missing. It swaps nothing
# then, but it must not fail either.
NO_RECEIVERS = getattr(stock, "NO_RECEIVERS", object())
_make_id = getattr(stock, "_make_id", None)

# Its get() is spelt out where it counts: for the attribute, the type must be Any.
_CACHE_TYPE: Any = weakref.WeakKeyDictionary

#: Has noted what is connected weakly, and what died: altdispatch.lost, while the apps
#: are loaded.
watcher: Any = None

#: Whether sends and receivers are counted and timed, by altdispatch.watching, which is
#: there then.
is_watched = False
watching: Any = None
_UNWATCHED = nullcontext()

Receiver = Callable[..., Any]
Responses = list[tuple[Receiver, Any]]
F = TypeVar("F", bound=Receiver)


class Signal(django.dispatch.Signal):
    """A signal that is Django's in everything but the time it takes.

    Use it for signals of your own where nothing else is to be changed. To have
    every signal of a project dispatched by it, see ``install()``.

    Attributes:

        receivers
            A list of what is connected, in that order. An entry is a tuple
            ``(lookup_key, receiver, sender_ref, is_async)``, without the
            ``sender_ref`` on Django 5.2; ``receiver`` is a weak reference
            unless it was connected with ``weak=False``.

        lock
            What to hold while changing any of this.

        use_caching
            Whether the receivers of a sender are kept for its next send.

        sender_receivers_cache
            Where they are kept: by sender, its receivers or ``NO_RECEIVERS``.

    .. versionadded:: 0.1
    """

    _dead_receivers: bool

    def connect(
        self,
        receiver: Receiver,
        sender: object = None,
        weak: bool = True,
        dispatch_uid: Any = None,
    ) -> None:
        """Connect ``receiver`` to the signal.

        Arguments:

            receiver
                A callable that accepts keyword arguments, synchronous or not.
                It must be weak referenceable if ``weak`` is true.

            sender
                The only sender whose signals it is to get; None for all.

            weak
                Whether the receiver is dropped when nothing else refers to it.

            dispatch_uid
                Names the connection in place of the receiver: connecting with
                the same one and the same sender again changes nothing.

        With ``settings.DEBUG``, raise ``TypeError`` if the receiver can't be
        called and ``ValueError`` if it doesn't accept ``**kwargs``.
        """
        settings = django.conf.settings
        if settings.configured and settings.DEBUG:
            if not callable(receiver):
                raise TypeError("Signal receivers must be callable.")
            if not stock.func_accepts_kwargs(receiver):
                raise ValueError(
                    "Signal receivers must accept keyword arguments (**kwargs)."
                )
        if dispatch_uid:
            lookup_key = dispatch_uid, stock._make_id(sender)
        else:
            lookup_key = stock._make_id(receiver), stock._make_id(sender)
        is_async = stock.iscoroutinefunction(receiver)
        # One bound method for both references: it's a sixth of what an entry takes.
        report = self._flag_dead_receivers if WATCHES_SENDERS else self._remove_receiver
        # Up to 6.0, a receiver that nothing else refers to dies after this: not before,
        # as what has to be cleared then would be noticed already.
        owner: Any = None
        if weak:
            kind: Any = weakref.ref
            if hasattr(receiver, "__self__") and hasattr(receiver, "__func__"):
                kind = weakref.WeakMethod
            if OUTLIVES_CONNECT:
                owner = receiver  # noqa: F841 - it holds the receiver.
            # The reference reports the death, also where Django has a finalizer do it:
            # that would stay when the receiver is disconnected, and keep the signal.
            reference = kind(receiver, report)
            if watcher is not None:
                watcher.note(self, receiver, reference)
            receiver = reference
        entry: routing.Entry
        if WATCHES_SENDERS:
            sender_ref = None
            if sender is not None:
                try:  # noqa: SIM105 - suppress() takes three times as long.
                    sender_ref = weakref.ref(sender, report)
                except TypeError:
                    pass
            entry = lookup_key, receiver, sender_ref, is_async
        else:
            entry = lookup_key, receiver, is_async
        with self.lock:
            self._clear_dead_receivers()
            if (
                not routing.add(self, entry)
                and lookup_key[0] is not dispatch_uid
                and routing.is_key_of_dead(self, lookup_key)
            ):
                self._dead_receivers = True
                self._clear_dead_receivers()
                routing.add(self, entry)
            cache: Any = self.sender_receivers_cache
            if type(cache) is not _CACHE_TYPE or cache.data:
                # An empty one, too, would raise and catch a KeyError.
                cache.clear()

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: object = None,
        dispatch_uid: Any = None,
    ) -> bool:
        """Undo a ``connect()`` with the same arguments.

        ``receiver`` isn't needed where ``dispatch_uid`` was given. Return
        whether there was such a connection.
        """
        if dispatch_uid:
            lookup_key = dispatch_uid, stock._make_id(sender)
        else:
            lookup_key = stock._make_id(receiver), stock._make_id(sender)
        with self.lock:
            self._clear_dead_receivers()
            removed = routing.remove(self, lookup_key)
            cache: Any = self.sender_receivers_cache
            if type(cache) is not _CACHE_TYPE or cache.data:
                # An empty one, too, would raise and catch a KeyError.
                cache.clear()
        # It goes after the lock: the receiver's finalizer may use the signal.
        return removed is not None

    def has_listeners(self, sender: Any = None) -> bool:
        """Return whether a send from ``sender`` would call anything."""
        sync_receivers, async_receivers = self._live_receivers(sender)
        # Without bool(), whose two calls are a tenth of the time.
        return True if sync_receivers or async_receivers else False  # noqa: SIM210

    def send(self, sender: Any, **named: Any) -> Responses:
        """Call every receiver with ``signal``, ``sender`` and ``named``.

        Asynchronous receivers are called after the others, all at once, on an
        event loop. The first error ends the send and is raised.

        Return a list of ``(receiver, response)``.
        """
        if not self.receivers:
            return watching.count_unheard(self) if is_watched else []
        # For a caching signal, as most of Django's are, this is what the method
        # _live_receivers() would do, without looking up the sender a second time.
        cache: Any = self.sender_receivers_cache
        routes = None
        if type(cache) is _CACHE_TYPE:
            routes = cache.data.get(weakref.ref(sender))
            if routes is NO_RECEIVERS:
                return watching.count_unheard(self) if is_watched else []
        elif cache.get(sender) is NO_RECEIVERS:
            return watching.count_unheard(self) if is_watched else []
        sender_type: Any = type(sender)
        if (
            routes is not None
            and self.use_caching
            and not self._dead_receivers
            and id(type(self)._live_receivers) in OWN_LIVE_RECEIVERS
            and "_live_receivers" not in self.__dict__
            # It may count how often it is looked up.
            and sender_type.__hash__ is object.__hash__
            and sender_type.__eq__ is object.__eq__
        ):
            sync_receivers, async_receivers = routing.resolve(routes)
        else:
            sync_receivers, async_receivers = self._live_receivers(sender)
        responses = []
        if is_watched:
            watching.count_send(self, sync_receivers, async_receivers)
            for receiver in sync_receivers:
                with watch(self, sender, receiver):
                    response = receiver(signal=self, sender=sender, **named)
                responses.append((receiver, response))
        # A patched look-up may have found them in something that isn't a list.
        elif (
            type(sync_receivers) is list
            and len(sync_receivers) > 1
            and "signal" not in named
        ):
            arguments = {"signal": self, "sender": sender, **named}
            for receiver in sync_receivers:
                response = receiver(**arguments)
                responses.append((receiver, response))
        else:
            for receiver in sync_receivers:
                # Where named has a signal too, this is the TypeError that is due.
                response = receiver(signal=self, sender=sender, **named)
                responses.append((receiver, response))
        if async_receivers:
            responses.extend(_wait_for(self, sender, named, async_receivers, "send"))
        return responses

    async def asend(self, sender: Any, **named: Any) -> Responses:
        """Do from asynchronous code what ``send()`` does.

        Synchronous receivers are called one after the other in the thread for
        synchronous code; from Django 6.1 before the asynchronous ones, on older
        releases at the same time.
        """
        if (
            not self.receivers
            or self.sender_receivers_cache.get(sender) is NO_RECEIVERS
        ):
            return watching.count_unheard(self) if is_watched else []
        if not is_watched:
            return await _answer(self, sender, named, "asend")
        with watching.Span():
            return await _answer(self, sender, named, "asend")

    def send_robust(self, sender: Any, **named: Any) -> Responses:
        """Do what ``send()`` does, with an ``Exception`` as a response.

        An error that a receiver raises is logged, and stands in the answer in
        the place of its response. What isn't an ``Exception`` is raised.
        """
        if (
            not self.receivers
            or self.sender_receivers_cache.get(sender) is NO_RECEIVERS
        ):
            return watching.count_unheard(self) if is_watched else []
        responses = []
        sync_receivers, async_receivers = self._live_receivers(sender)
        if is_watched:
            watching.count_send(self, sync_receivers, async_receivers)
        for receiver in sync_receivers:
            try:
                if is_watched:
                    with watch(self, sender, receiver):
                        response = receiver(signal=self, sender=sender, **named)
                else:
                    response = receiver(signal=self, sender=sender, **named)
            except Exception as error:
                self._log_robust_failure(receiver, error)
                response = error
            responses.append((receiver, response))
        if async_receivers:
            responses.extend(
                _wait_for(self, sender, named, async_receivers, "send_robust")
            )
        return responses

    async def asend_robust(self, sender: Any, **named: Any) -> Responses:
        """Do from asynchronous code what ``send_robust()`` does.

        The receivers are called as by ``asend()``.
        """
        if (
            not self.receivers
            or self.sender_receivers_cache.get(sender) is NO_RECEIVERS
        ):
            return watching.count_unheard(self) if is_watched else []
        if not is_watched:
            return await _answer(self, sender, named, "asend_robust")
        with watching.Span():
            return await _answer(self, sender, named, "asend_robust")

    def _log_robust_failure(self, receiver: Receiver, err: Exception) -> None:
        stock.logger.error(
            "Error calling %s in Signal.send_robust() (%s)",
            receiver.__qualname__,
            err,
            exc_info=err,
        )

    def _clear_dead_receivers(self) -> None:
        # The caller holds the lock.
        if self._dead_receivers:
            self._dead_receivers = False
            if watcher is not None:
                watcher.note_dead(self)
            routing.drop_dead(self)

    def _live_receivers(self, sender: Any) -> tuple[list[Receiver], list[Receiver]]:
        # Both lists are new: callers change them.
        routes: Any = None
        if self.use_caching and not self._dead_receivers:
            cache: Any = self.sender_receivers_cache
            if type(cache) is _CACHE_TYPE:
                routes = cache.data.get(weakref.ref(sender))
            else:
                routes = cache.get(sender)
            if routes is NO_RECEIVERS:
                return [], []
            if routes is not None:
                return routing.resolve(routes)
        if self.use_caching:
            return find_and_cache(self, sender)
        with self.lock:
            self._clear_dead_receivers()
            sender_key = stock._make_id(sender)
            if (
                type(self.receivers) is list
                and len(self.receivers) <= routing.MOST_SCANNED
            ):
                entries = self.receivers.copy()
            else:
                routes = routing.find_routes(self, sender_key)
        # Without the lock: what receivers are may be asked in their own code.
        if routes is None:
            return routing.resolve_entries(entries, sender_key)
        return routing.resolve(routes)

    # The receivers that are gone are dropped by the next use of the signal. Not
    # here: the garbage collector may call this while the lock is held.
    if WATCHES_SENDERS:

        def _flag_dead_receivers(self, reference: Any = None) -> None:
            self._dead_receivers = True

    else:

        def _remove_receiver(self, receiver: Any = None) -> None:
            self._dead_receivers = True


#: The functions that are known to do what the two methods of these names do above:
#: themselves, and what is put into Django's class in their place. By their ids, as a
#: proxy may be equal to what it stands for.
OWN_LIVE_RECEIVERS = {id(Signal._live_receivers): Signal._live_receivers}
OWN_CLEAR_DEAD_RECEIVERS = {
    id(Signal._clear_dead_receivers): Signal._clear_dead_receivers
}


def find_and_cache(
    signal: Signal, sender: Any
) -> tuple[list[Receiver], list[Receiver]]:
    """Do the rest of ``_live_receivers()`` for a sender that isn't in the cache."""
    if not signal.use_caching:
        # The sender's own code has turned it off.
        return Signal._live_receivers(signal, sender)
    with signal.lock:
        signal._clear_dead_receivers()
        routes = routing.find_routes(signal, stock._make_id(sender))
        signal.sender_receivers_cache[sender] = routes or NO_RECEIVERS
    return routing.resolve(routes)


def watch(
    signal: Signal, sender: Any, receiver: Receiver, is_async: bool = False
) -> AbstractContextManager[None]:
    """Return what times the call of a receiver in its block, if that's to be timed."""
    if not is_watched:
        return _UNWATCHED
    return watching.Watch(signal, sender, receiver, is_async)  # type: ignore[no-any-return]


# What stands between a send and its receivers, other than the loops in send() and
# send_robust(): functions of their own, as a closure in there would slow all sends.
# What programs read about in warnings has the name of Django's.


def _wait_for(
    signal: Signal,
    sender: Any,
    named: dict[str, Any],
    receivers: list[Receiver],
    method: str,
) -> Iterable[tuple[Receiver, Any]]:
    """Return the responses of asynchronous receivers to synchronous code."""

    async def asend() -> Iterable[tuple[Receiver, Any]]:
        if method == "send":
            coroutines = make_coroutines(signal, sender, named, receivers)
        else:
            coroutines = _make_robust_coroutines(
                signal, sender, named, receivers, method
            )
        responses = await run_by_django(coroutines)
        return zip(receivers, responses)  # noqa: B905 - see _answer()

    asend.__qualname__ = f"Signal.{method}.<locals>.asend"
    with watching.Span() if is_watched else _UNWATCHED:
        return stock.async_to_sync(asend)()  # type: ignore[no-any-return]


async def _answer(
    signal: Signal, sender: Any, named: dict[str, Any], method: str
) -> Responses:
    """Return the responses of both kinds of receivers, the synchronous first."""
    sync_receivers, async_receivers = signal._live_receivers(sender)
    if is_watched:
        watching.count_send(signal, sync_receivers, async_receivers)
    make = make_coroutines if method == "asend" else _make_robust_coroutines
    if SYNC_RECEIVERS_FIRST:
        responses = []
        if sync_receivers:
            responses = await call_synchronous(
                signal, sender, named, sync_receivers, method
            )
        if not async_receivers:
            return responses
        async_responses = await run_together(
            make(signal, sender, named, async_receivers), async_receivers
        )
    else:
        responses, async_responses = await asyncio.gather(
            call_synchronous(signal, sender, named, sync_receivers, method)
            if sync_receivers
            else _call_none(method),
            run_by_django(make(signal, sender, named, async_receivers)),
        )
    # To say that it isn't strict takes half as long again.
    responses.extend(zip(async_receivers, async_responses))  # noqa: B905
    return responses


def call_in_thread(
    signal: Signal,
    sender: Any,
    named: dict[str, Any],
    receivers: list[Receiver],
    method: str,
) -> Awaitable[Responses]:
    """Return the responses of synchronous receivers to asynchronous code."""

    def sync_send() -> Responses:
        responses = []
        for receiver in receivers:
            try:
                with watch(signal, sender, receiver):
                    response = receiver(signal=signal, sender=sender, **named)
            except Exception as error:
                if method == "asend":
                    raise
                signal._log_robust_failure(receiver, error)
                response = error
            responses.append((receiver, response))
        return responses

    if stock.sync_to_async is sync_to_async:
        if asgi.are_djangos_own(receivers):
            return asgi.answer_without_thread(
                receivers, sync_send, _run_in_thread, is_watched
            )
        return _run_in_thread(sync_send)
    sync_send.__qualname__ = f"Signal.{method}.<locals>.sync_send"
    return stock.sync_to_async(sync_send)()  # type: ignore[no-any-return]


#: How ``asend()`` calls synchronous receivers: ``altdispatch.hybrid`` has its own way.
call_synchronous = call_in_thread


@sync_to_async
def _run_in_thread(function: Callable[[], Responses]) -> Responses:
    # Made once, as that takes longer than to call it.
    return function()


def _call_none(method: str) -> Awaitable[Responses]:
    async def sync_send() -> Responses:
        return []

    sync_send.__qualname__ = f"Signal.{method}.<locals>.sync_send"
    return sync_send()


_traceback: Any = vars(BaseException)["__traceback__"]
_context: Any = vars(BaseException)["__context__"]


def log_failure(signal: Signal, receiver: Receiver, error: Exception) -> None:
    """Log the error of a receiver that compiled code has called, as a handler of it.

    It's raised once more, for ``sys.exc_info()`` to have it meanwhile and to have after
    it what it had before. The error must not look different for that.
    """
    # Its class may have attributes of these names, or refuse to have any set.
    traceback, context = _traceback.__get__(error), _context.__get__(error)
    try:
        raise error
    except Exception:
        _traceback.__set__(error, traceback)
        _context.__set__(error, context)
        signal._log_robust_failure(receiver, error)


def call_found(
    signal: Signal, sender: Any, named: dict[str, Any], found: Any, robust: bool
) -> Responses:
    """Do the rest of a compiled send, once a patched ``_live_receivers`` has returned.

    ``found`` is what it has returned, whatever that is.
    """
    sync_receivers, async_receivers = found
    responses = []
    for receiver in sync_receivers:
        try:
            with watch(signal, sender, receiver):
                response = receiver(signal=signal, sender=sender, **named)
        except Exception as error:
            if not robust:
                raise
            signal._log_robust_failure(receiver, error)
            response = error
        responses.append((receiver, response))
    if async_receivers:
        method = "send_robust" if robust else "send"
        responses.extend(_wait_for(signal, sender, named, async_receivers, method))
    return responses


def is_any_found(found: Any) -> bool:
    """Do the rest of a compiled ``has_listeners()`` in the same case."""
    sync_receivers, async_receivers = found
    return bool(sync_receivers) or bool(async_receivers)


def make_coroutines(
    signal: Signal, sender: Any, named: dict[str, Any], receivers: list[Receiver]
) -> list[Any]:
    """Call asynchronous receivers, and return what is to be awaited."""
    if not is_watched:
        return [
            receiver(signal=signal, sender=sender, **named) for receiver in receivers
        ]
    return [
        watching.watch_coroutine(
            signal, sender, receiver, receiver(signal=signal, sender=sender, **named)
        )
        for receiver in receivers
    ]


def _make_robust_coroutines(
    signal: Signal,
    sender: Any,
    named: dict[str, Any],
    receivers: list[Receiver],
    method: str = "asend_robust",
) -> list[Any]:
    """Do what ``make_coroutines()`` does, with errors as results."""

    async def asend_and_wrap_exception(receiver: Receiver) -> Any:
        try:
            with watch(signal, sender, receiver, is_async=True):
                return await receiver(signal=signal, sender=sender, **named)
        except Exception as error:
            signal._log_robust_failure(receiver, error)
            return error

    asend_and_wrap_exception.__qualname__ = (
        f"Signal.{method}.<locals>.asend_and_wrap_exception"
    )
    return [asend_and_wrap_exception(receiver) for receiver in receivers]


def receiver(signal: Any, **kwargs: Any) -> Callable[[F], F]:
    """Connect the decorated function to ``signal``, or to each of a list or tuple.

    ``kwargs`` are those of ``Signal.connect()``.

    .. versionadded:: 0.1
    """

    def connect(function: F) -> F:
        signals: Iterable[Any] = (
            signal if isinstance(signal, (list, tuple)) else [signal]
        )
        for one in signals:
            one.connect(function, **kwargs)
        return function

    return connect
