"""What is cached and invalidated, by receivers that it puts before all others."""

from cacheops import cached_as, invalidate_all, no_invalidation
from cacheops.signals import cache_invalidated, cache_read
from django.contrib.auth.models import Group
from django.db import models, transaction
from django.db.models.signals import post_delete, post_save, pre_save

from ._notes import Notes, receivers_of
from ._redis import redis_server

PACKAGES = ["django-cacheops"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "cacheops"],
    # The socket is in the current folder.
    "CACHEOPS_REDIS": {"unix_socket_path": "redis.sock"},
    "CACHEOPS": {"companions.*": {"ops": "all", "timeout": 60}},
}

notes = Notes()

# Connected before the model exists; the package's receivers still come first.
notes.listen("saving", pre_save)
notes.listen("saved", post_save)
notes.listen("deleted", post_delete)


class Book(models.Model):
    title = models.CharField(max_length=50)
    groups = models.ManyToManyField(Group)


def look_up(instance, **kwargs):
    """Query the cache in a receiver: this works only after the package's receivers."""
    titles = Book.objects.filter(pk=instance.pk).values_list("title", flat=True)
    notes.append(["found by a receiver", list(titles)])


@cached_as(Book)
def count_books():
    notes.append("counted")
    return Book.objects.nocache().count()


def drive():
    with redis_server():
        notes.listen_to(
            {
                "read": cache_read,
                "invalidated": cache_invalidated,
            }
        )
        post_save.connect(look_up, sender=Book)
        post_delete.connect(look_up, sender=Book)
        use()
    hits = [dict(call[2])["hit"] for call in notes if call[0] == "read"]
    assert {True, False} == set(hits)
    order = [receivers_of(signal) for signal in (pre_save, post_save, post_delete)]
    assert order[0][-1] == "saving"
    return [notes, order]


def use():
    """Read, change, and read again."""
    book = Book.objects.create(title="one")
    group = Group.objects.create(name="readers")
    record_found()
    record_found()
    book.title = "two"
    book.save()
    record_found()
    book.groups.add(group)
    record_found()
    book.groups.clear()
    record_found()
    try:
        with transaction.atomic():
            Book.objects.create(title="never")
            record_found()
            raise ValueError
    except ValueError:
        record_found()
    with transaction.atomic():
        Book.objects.create(title="three")
        record_found()
    record_found()
    with no_invalidation:
        Book.objects.create(title="four")
    record_found()
    Book.objects.filter(title="four").invalidated_update(title="five")
    record_found()
    book.delete()
    record_found()
    invalidate_all()
    record_found()


def record_found():
    """Record what is found through the cache."""
    books = Book.objects.order_by("pk")
    notes.append(
        [
            "found",
            [book.title for book in books],
            books.exclude(title="one").count(),
            list(books.filter(groups__name="readers").values_list("title", flat=True)),
            count_books(),
        ]
    )
