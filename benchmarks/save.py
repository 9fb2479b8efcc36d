"""How long does it take to save an instance, with receivers before and after?"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from pyperf import perf_counter

from benchmarks.rows import Body, Row, calls_counted, make_counting_receiver

TITLE = "Saving"


@contextmanager
def saving() -> Iterator[Body]:
    """Save a book, with three receivers of pre_save and three of post_save."""
    # Models can only be imported in a worker, which has set up Django.
    from django.db.models.signals import post_save, pre_save

    from benchmarks.shop.models import Book

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            book.save()
        return perf_counter() - start

    counter = count()
    receivers = [make_counting_receiver(counter) for _ in range(3)]
    book = Book.objects.create(title="Title", pages=100)
    for receiver in receivers:
        pre_save.connect(receiver, sender=Book)
        post_save.connect(receiver, sender=Book)
    try:
        yield Body(
            time=time,
            answer=lambda: f"{calls_counted(counter, book.save)} heard",
        )
    finally:
        for receiver in receivers:
            pre_save.disconnect(receiver, sender=Book)
            post_save.disconnect(receiver, sender=Book)
        book.delete()


ROWS = [Row("save, 3 receivers before and 3 after", saving, headline=True)]
