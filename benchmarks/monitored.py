"""What does monitoring cost? The rows without it are in ``send``."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from altdispatch import monitoring
from benchmarks.rows import Body, Row
from benchmarks.send import bound_methods, counted, sending

TITLE = "Sending, with monitoring"


@contextmanager
def monitored(prepare: Callable[[], AbstractContextManager[Body]]) -> Iterator[Body]:
    """Do what ``prepare`` does while sends are counted and receivers timed."""
    monitoring.enable()
    try:
        with prepare() as body:
            yield body
    finally:
        monitoring.disable()


@contextmanager
def subscribed(prepare: Callable[[], AbstractContextManager[Body]]) -> Iterator[Body]:
    """Do what ``prepare`` does while a subscriber is told of each call."""
    with monitoring.subscribe(id, slower_than=0), prepare() as body:
        yield body


ROWS = [
    *(
        Row(
            f"send, {kind}, {counted(count, 'receiver')}, monitoring",
            partial(monitored, partial(sending, kind == "caching", count)),
            headline=kind == "caching" and count == 3,
        )
        for kind in ("caching", "not caching")
        for count in (0, 1, 3)
    ),
    Row(
        "send, caching, 3 bound methods, monitoring",
        partial(monitored, partial(sending, True, 3, make_receivers=bound_methods)),
    ),
    Row(
        "send, caching, 3 receivers, a subscriber",
        partial(subscribed, partial(sending, True, 3)),
    ),
]
