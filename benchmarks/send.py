"""How long does a send take, by the number of receivers, caching and not?"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from django.dispatch import Signal
from pyperf import perf_counter

from benchmarks.rows import Body, Row, Timer, make_receiver

TITLE = "Sending"


class Book:
    """The sender of the measured sends."""


class Author:
    """Another sender."""


class Listener:
    """An object with a method that is a receiver."""

    def __init__(self, answer: int) -> None:
        self.answer = answer

    def receive(self, sender, **kwargs):
        return self.answer


def functions(count: int) -> list[Callable[..., object]]:
    """Return ``count`` different receivers."""
    return [make_receiver(number) for number in range(count)]


def bound_methods(count: int) -> list[Callable[..., object]]:
    """Return the receiver methods of ``count`` objects."""
    return [Listener(number).receive for number in range(count)]


# Each timed loop below is written out with the keyword arguments of post_save, because
# the call of a shared helper would be timed too.


def time_send(signal: Signal) -> Timer:
    """Return a timer of ``send`` by Book."""
    book = Book()

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            signal.send(
                sender=Book,
                instance=book,
                created=False,
                update_fields=None,
                raw=False,
                using="default",
            )
        return perf_counter() - start

    return time


def time_send_robust(signal: Signal) -> Timer:
    """Return a timer of ``send_robust`` by Book."""
    book = Book()

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            signal.send_robust(
                sender=Book,
                instance=book,
                created=False,
                update_fields=None,
                raw=False,
                using="default",
            )
        return perf_counter() - start

    return time


def time_has_listeners(signal: Signal, sender: object = Book) -> Timer:
    """Return a timer of ``has_listeners`` for a sender."""

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            signal.has_listeners(sender)
        return perf_counter() - start

    return time


def time_plain(signal: Signal, receivers: Sequence[Callable[..., object]]) -> Timer:
    """Return a timer of a plain loop over the receivers, with the result of a send."""
    book = Book()

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            [
                (
                    receiver,
                    receiver(
                        signal=signal,
                        sender=Book,
                        instance=book,
                        created=False,
                        update_fields=None,
                        raw=False,
                        using="default",
                    ),
                )
                for receiver in receivers
            ]
        return perf_counter() - start

    return time


class Timers(NamedTuple):
    """The functions that return timers of sends with certain keyword arguments."""

    send: Callable[[Signal], Timer]
    send_robust: Callable[[Signal], Timer]
    plain: Callable[[Signal, Sequence[Callable[..., object]]], Timer]


POST_SAVE = Timers(time_send, time_send_robust, time_plain)


def answers(responses: list[tuple[object, object]]) -> str:
    """Return the receivers' responses, in the order of the calls, as text."""
    return str([response for _, response in responses])


@contextmanager
def sending(
    caching: bool,
    count: int,
    connected_to: type | None = Book,
    make_receivers: Callable[[int], list[Callable[..., object]]] = functions,
    robust: bool = False,
    timers: Timers = POST_SAVE,
) -> Iterator[Body]:
    """Send by Book, with ``count`` receivers of Book, of Author or of any sender."""
    signal = Signal(use_caching=caching)
    receivers = make_receivers(count)
    connect_all(signal, receivers, connected_to)
    heard = count and connected_to is not Author
    send = signal.send_robust if robust else signal.send
    yield Body(
        time=(timers.send_robust if robust else timers.send)(signal),
        answer=lambda: answers(send(sender=Book)),
        plain=timers.plain(signal, receivers) if heard else None,
    )


@contextmanager
def calling_has_listeners(
    caching: bool, count: int, connected_to: type | None = Book
) -> Iterator[Body]:
    """Call ``has_listeners(Book)``, with ``count`` receivers."""
    signal = Signal(use_caching=caching)
    receivers = functions(count)
    connect_all(signal, receivers, connected_to)
    yield Body(
        time=time_has_listeners(signal),
        answer=lambda: str(signal.has_listeners(Book)),
    )


def connect_all(
    signal: Signal, receivers: Sequence[Callable[..., object]], sender: type | None
) -> None:
    """Connect each of the receivers to the sender."""
    for receiver in receivers:
        signal.connect(receiver, sender=sender)


def of_kind(kind: str, caching: bool) -> Iterator[Row]:
    """Yield the rows for signals that cache or don't."""
    for count in (0, 1, 3, 10, 100):
        yield Row(
            f"send, {kind}, {counted(count, 'receiver')}",
            partial(sending, caching, count),
            headline=count in (1, 10),
        )
    for count in (1, 3, 10, 100):
        yield Row(
            f"send, {kind}, {count} of another sender",
            partial(sending, caching, count, connected_to=Author),
            headline=count == 3,
        )
    yield Row(
        f"send, {kind}, 3 of every sender",
        partial(sending, caching, 3, connected_to=None),
    )
    for count in (1, 3, 10):
        yield Row(
            f"send, {kind}, {counted(count, 'bound method')}",
            partial(sending, caching, count, make_receivers=bound_methods),
        )
    for count in (0, 1, 3, 10):
        yield Row(
            f"send_robust, {kind}, {counted(count, 'receiver')}",
            partial(sending, caching, count, robust=True),
        )
    yield Row(
        f"has_listeners, {kind}, no receiver",
        partial(calling_has_listeners, caching, 0),
    )
    yield Row(
        f"has_listeners, {kind}, 3 receivers",
        partial(calling_has_listeners, caching, 3),
        headline=True,
    )
    yield Row(
        f"has_listeners, {kind}, 3 of another sender",
        partial(calling_has_listeners, caching, 3, connected_to=Author),
    )


def counted(count: int, thing: str) -> str:
    """Return a count of things, such as ``"no receivers"``."""
    return f"{count} {thing}" if count == 1 else f"{count or 'no'} {thing}s"


ROWS = [*of_kind("caching", True), *of_kind("not caching", False)]
