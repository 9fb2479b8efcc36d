"""What does it cost to send from asynchronous code, or to asynchronous receivers?

Of one keyword argument, as request_started and request_finished have. The receivers do
nothing, unless said otherwise: what they are waited for with is all that is measured.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from asgiref.sync import sync_to_async
from django.dispatch import Signal
from pyperf import perf_counter

from altdispatch.hybrid import hybrid
from benchmarks.rows import Body, Row, Timer
from benchmarks.send import Book, answers, connect_all, counted, functions
from benchmarks.send_one import time_send

TITLE = "Asynchronous"

Receivers = Callable[[int], list[Callable[..., object]]]


def coroutine_functions(count: int) -> list[Callable[..., object]]:
    """Return so many asynchronous receivers, which wait for nothing."""

    def make(answer: int) -> Callable[..., object]:
        async def receiver(sender, **kwargs):
            return answer

        return receiver

    return [make(number) for number in range(count)]


def suspending(count: int) -> list[Callable[..., object]]:
    """Return so many that let others run once."""

    def make(answer: int) -> Callable[..., object]:
        async def receiver(sender, **kwargs):
            await asyncio.sleep(0)
            return answer

        return receiver

    return [make(number) for number in range(count)]


def calling(count: int) -> list[Callable[..., object]]:
    """Return so many that have a synchronous function called once."""

    def make(answer: int) -> Callable[..., object]:
        async def receiver(sender, **kwargs):
            return await sync_to_async(int)(answer)

        return receiver

    return [make(number) for number in range(count)]


def time_asend(signal: Signal) -> Timer:
    """Return a timer of ``asend`` by Book, in a loop that has nothing else to do."""
    book = Book()

    async def measure(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            await signal.asend(sender=Book, instance=book)
        return perf_counter() - start

    return lambda loops: asyncio.run(measure(loops))


def hybrids(count: int) -> list[Callable[..., object]]:
    """Return so many that have a side of each kind; both do nothing."""
    return [*map(hybrid, functions(count), coroutine_functions(count))]


@contextmanager
def sending(
    make_receivers: Receivers, count: int, asynchronously: bool
) -> Iterator[Body]:
    """Book sends, from either kind of code; so many receivers listen to it."""
    signal = Signal(use_caching=True)
    receivers = make_receivers(count)
    connect_all(signal, receivers, Book)

    async def ask() -> list[tuple[object, object]]:
        return await signal.asend(Book)

    if asynchronously:
        yield Body(time_asend(signal), lambda: answers(asyncio.run(ask())))
    else:
        yield Body(time_send(signal), lambda: answers(signal.send(Book)))


ROWS = [
    *(
        Row(
            f"{'asend' if asynchronously else 'send'}, {name}",
            partial(sending, make, count, asynchronously),
            headline=make is coroutine_functions and count == 1,
        )
        for asynchronously, make, count, name in [
            (True, functions, 0, "no receivers"),
            *(
                (True, coroutine_functions, n, counted(n, "asynchronous receiver"))
                for n in (1, 10)
            ),
            (True, suspending, 10, "10 that suspend once"),
            *(
                (True, functions, n, counted(n, "synchronous receiver"))
                for n in (1, 10)
            ),
            *(
                (False, coroutine_functions, n, counted(n, "asynchronous receiver"))
                for n in (1, 10)
            ),
            (False, calling, 1, "1 that awaits sync_to_async() once"),
            # Last: from the first one on, each asend() looks for them.
            *((True, hybrids, n, counted(n, "hybrid receiver")) for n in (1, 10)),
        ]
    )
]
