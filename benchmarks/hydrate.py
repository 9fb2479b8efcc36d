"""How long does it take to read many model instances from the database?

Every instance sends pre_init and post_init. The time is that of one of the 10,000
instances that a query returns, including the database's part.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from pyperf import perf_counter

from benchmarks.rows import Body, Row, calls_counted, make_counting_receiver

TITLE = "Reading model instances"

INSTANCES = 10_000


@contextmanager
def reading(connected_to: str | None) -> Iterator[Body]:
    """Read the books, with one receiver of post_init connected to the named model."""
    # Models can only be imported in a worker, which has set up Django.
    from django.db.models.signals import post_init

    from benchmarks.shop.models import Book

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            list(Book.objects.all())
        return perf_counter() - start

    def answer() -> str:
        heard = calls_counted(counter, lambda: time(1))
        return f"{Book.objects.count()} read, {heard} heard"

    counter = count()
    receiver = make_counting_receiver(counter)
    Book.objects.bulk_create(
        Book(title=f"Title {number}", pages=number) for number in range(INSTANCES)
    )
    if connected_to:
        post_init.connect(receiver, sender=connected_to)
    try:
        yield Body(time=time, answer=answer)
    finally:
        if connected_to:
            post_init.disconnect(receiver, sender=connected_to)
        Book.objects.all().delete()


ROWS = [
    Row(
        "read an instance, no receiver",
        partial(reading, None),
        calls=INSTANCES,
        headline=True,
    ),
    Row(
        "read an instance, 1 receiver on another model",
        partial(reading, "shop.Author"),
        calls=INSTANCES,
        headline=True,
    ),
    Row(
        "read an instance, 1 receiver on this model",
        partial(reading, "shop.Book"),
        calls=INSTANCES,
        headline=True,
    ),
]
