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
    # In the current folder.
    "CACHEOPS_REDIS": {"unix_socket_path": "redis.sock"},
    "CACHEOPS": {"companions.*": {"ops": "all", "timeout": 60}},
}

notes = Notes()

# Before there is a model, whose receivers get before them all the same.
notes.listen("saving", pre_save)
notes.listen("saved", post_save)
notes.listen("deleted", post_delete)


class Book(models.Model):
    title = models.CharField(max_length=50)
    groups = models.ManyToManyField(Group)


def look_up(instance, **kwargs):
    """Ask the cache, as a receiver that only works after those of the package."""
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
    look()
    look()
    book.title = "two"
    book.save()
    look()
    book.groups.add(group)
    look()
    book.groups.clear()
    look()
    try:
        with transaction.atomic():
            Book.objects.create(title="never")
            look()
            raise ValueError
    except ValueError:
        look()
    with transaction.atomic():
        Book.objects.create(title="three")
        look()
    look()
    with no_invalidation:
        Book.objects.create(title="four")
    look()
    Book.objects.filter(title="four").invalidated_update(title="five")
    look()
    book.delete()
    look()
    invalidate_all()
    look()


def look():
    """Write down what is found through the cache."""
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
