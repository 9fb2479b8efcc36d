"""How long does a send with one keyword argument take, such as that of post_init?

With fewer arguments, calling the receivers takes less time, and the dispatcher has a
larger share of the time. ``send.py`` has the same with the five of post_save.
"""

from collections.abc import Sequence
from functools import partial

from django.dispatch import Signal
from pyperf import perf_counter

from benchmarks.rows import Row, Timer
from benchmarks.send import Author, Book, Timers, bound_methods, counted, sending

TITLE = "Sending one keyword argument"


# The loops are written out for the same reason as those in send.py.


def time_send(signal: Signal, sender: object = Book) -> Timer:
    """Return a timer of ``send`` by a sender."""
    book = Book()

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            signal.send(sender=sender, instance=book)
        return perf_counter() - start

    return time


def time_send_robust(signal: Signal) -> Timer:
    """Return a timer of ``send_robust`` by Book."""
    book = Book()

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            signal.send_robust(sender=Book, instance=book)
        return perf_counter() - start

    return time


def time_plain(signal: Signal, receivers: Sequence, sender: object = Book) -> Timer:
    """Return a timer of a loop over the receivers that gives what ``send`` gives."""
    book = Book()

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            [
                (receiver, receiver(signal=signal, sender=sender, instance=book))
                for receiver in receivers
            ]
        return perf_counter() - start

    return time


POST_INIT = Timers(time_send, time_send_robust, time_plain)
one_keyword = partial(sending, timers=POST_INIT)

ROWS = [
    *(
        Row(
            f"send(instance), caching, {counted(count, 'receiver')}",
            partial(one_keyword, True, count),
        )
        for count in (0, 1, 3, 10)
    ),
    Row(
        "send(instance), caching, 3 of another sender",
        partial(one_keyword, True, 3, connected_to=Author),
    ),
    Row(
        "send(instance), caching, 3 bound methods",
        partial(one_keyword, True, 3, make_receivers=bound_methods),
    ),
    Row("send(instance), not caching, 3 receivers", partial(one_keyword, False, 3)),
    Row(
        "send(instance), not caching, 3 of another sender",
        partial(one_keyword, False, 3, connected_to=Author),
    ),
    Row(
        "send_robust(instance), caching, 3 receivers",
        partial(one_keyword, True, 3, robust=True),
    ),
]
