"""How fast are signals that change all the time, as in test suites?

Receivers are connected and disconnected, lists are edited and replaced, and signals are
short-lived. What altdispatch remembers about a signal is hardly ever used again here.
"""

import enum
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from django.dispatch import Signal
from pyperf import perf_counter

from benchmarks.rows import Body, Row, Timer, make_receiver

TITLE = "Changing signals"


class Book:
    """The sender."""


class Author:
    """The sender that most receivers are connected to."""


class Listener:
    """An object with a method that is a receiver."""

    def receive(self, sender, **kwargs):
        return "heard"


class Color(enum.Enum):
    """Its members are used as a ``dispatch_uid``."""

    RED = 1


class Name(str):
    """A subclass of str."""


Work = Callable[[], object]
Receiver = Callable[..., object]


def repeat(work: Work) -> Timer:
    """Return a timer that repeats the work."""

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            work()
        return perf_counter() - start

    return time


def make_signal(
    count: int, caching: bool
) -> tuple[Signal, list[Callable[..., object]]]:
    """Return a signal with ``count`` receivers, up to three of them for Book."""
    signal = Signal(use_caching=caching)
    receivers = [make_receiver(number) for number in range(count)]
    for number, receiver in enumerate(receivers):
        signal.connect(receiver, sender=Book if number < 3 else Author)
    return signal, receivers


def muted(count: int) -> Work:
    """Mute a signal, restore it as factory_boy does, and send once."""
    signal, receivers = make_signal(count, caching=True)

    def work() -> object:
        saved = signal.receivers
        signal.receivers = []
        signal.receivers = saved + signal.receivers
        with signal.lock:
            signal.sender_receivers_cache.clear()
        return len(receivers), len(signal.send(Book))

    return work


def edited(count: int) -> Work:
    """Edit the list in place, and send once."""
    signal, receivers = make_signal(count, caching=False)

    def work() -> object:
        signal.receivers.append(signal.receivers.pop())
        return len(receivers), len(signal.send(Book))

    return work


def with_uid(uid: object, first_sends: bool) -> Work:
    """Send from a signal with 400 receivers and one with this uid, or connect to it."""
    signal, receivers = make_signal(400, caching=True)
    signal.connect(receivers[0], sender=Author, dispatch_uid=uid)
    new = make_receiver("new")

    def connect() -> object:
        signal.connect(new, sender=Book)
        return signal.disconnect(new, sender=Book)

    def send() -> object:
        signal.sender_receivers_cache.clear()
        return len(receivers), len(signal.send(Book))

    return send if first_sends else connect


def referenced() -> Work:
    """Send from a list that something else refers to."""
    signal, receivers = make_signal(3, caching=True)
    signal.receivers = kept = list(signal.receivers)

    def work() -> object:
        signal.sender_receivers_cache.clear()
        return len(kept), len(receivers), len(signal.send(Book))

    return work


def one_of_two() -> Work:
    """Disconnect one of two receivers, send, and connect it again."""
    signal, receivers = make_signal(2, caching=True)

    def work() -> object:
        signal.disconnect(receivers[1], sender=Book)
        heard = signal.send(Book)
        signal.connect(receivers[1], sender=Book)
        return len(heard)

    return work


def short_lived_method() -> Work:
    """Connect a bound method that lives for one send."""
    signal, receivers = make_signal(1, caching=True)

    def work() -> object:
        listener = Listener()
        signal.connect(listener.receive, sender=Book)
        return len(receivers), len(signal.send(Book))

    return work


def new_signal(caching: bool, used: bool) -> Work:
    """Make a signal; if ``used``, connect and send once."""
    receiver = make_receiver("heard")

    def make() -> object:
        return type(Signal(use_caching=caching)).__name__

    def use() -> object:
        signal = Signal(use_caching=caching)
        signal.connect(receiver)
        return len(signal.send(Book))

    return use if used else make


def reentrant_lock() -> Work:
    """Send from a signal whose lock is an RLock."""
    signal, receivers = make_signal(3, caching=False)
    signal.lock = threading.RLock()
    return lambda: (len(receivers), len(signal.send(Book)))


@contextmanager
def repeating(make: Callable[[], Work]) -> Iterator[Body]:
    """Prepare and repeat the work that ``make`` returns."""
    work = make()
    yield Body(time=repeat(work), answer=lambda: str(work()))


UIDS = {
    "UUID": uuid.UUID(int=1),
    "Enum member": Color.RED,
    "str subclass": Name("uid"),
    "float": 2.5,
}
WORK = {
    **{f"muted, then one send, {n} receivers": partial(muted, n) for n in (5, 50, 400)},
    **{
        f"edited, then one send, {n} receivers": partial(edited, n)
        for n in (5, 50, 400)
    },
    **{
        f"{what}, 400 receivers, a {kind} as uid": partial(with_uid, uid, first)
        for kind, uid in UIDS.items()
        for what, first in {"connect and disconnect": False, "first send": True}.items()
    },
    "first send, a list that is held": referenced,
    "disconnect, send, connect": one_of_two,
    "a bound method for one send": short_lived_method,
    **{
        f"Signal(){use}, {kind}": partial(new_signal, caching, bool(use))
        for use in ("", ", connect and send")
        for kind, caching in {"caching": True, "not caching": False}.items()
    },
    "a signal with an RLock, not caching, one send": reentrant_lock,
}

ROWS = [Row(name, partial(repeating, make)) for name, make in WORK.items()]
