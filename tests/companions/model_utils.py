"""``FieldTracker`` over saves, refreshes and deferred fields, seen by receivers."""

from django.db import models
from django.db.models.signals import post_init, post_save, pre_save
from model_utils import Choices, FieldTracker
from model_utils.fields import MonitorField
from model_utils.models import StatusModel

from tests.system.recording import plain

from ._notes import Notes

PACKAGES = ["django-model-utils"]
SETTINGS = {"INSTALLED_APPS": ["altdispatch"]}

notes = Notes()


class Article(StatusModel):
    STATUS = Choices("draft", "published")

    title = models.CharField(max_length=50)
    body = models.CharField(max_length=50)
    # It connects a receiver for post_init.
    published_at = MonitorField(monitor="status", when=["published"])

    tracker = FieldTracker()
    title_tracker = FieldTracker(fields=["title"])

    def __str__(self):
        return self.title


def write_down(moment):
    """Return a receiver that writes down what the trackers say at that moment."""

    def receive(instance, update_fields=None, **kwargs):
        fields = None if update_fields is None else sorted(update_fields)
        notes.append([moment, fields, *tracked(instance)])

    return receive


def tracked(article):
    """Return what the trackers say about an article."""
    titles = article.title_tracker
    return [
        sorted(article.get_deferred_fields()),
        plain(article.tracker.changed()),
        {name: article.tracker.has_changed(name) for name in ("status", "body")},
        [titles.previous("title"), titles.has_changed("title"), titles.changed()],
    ]


def drive():
    pre_save.connect(write_down("before"), sender=Article, weak=False)
    post_save.connect(write_down("after"), sender=Article, weak=False)
    notes.listen("made", post_init, sender=Article)
    article = Article(title="one", body="text")
    note(article)
    article.save()
    note(article)
    article.title = "two"
    article.status = "published"
    note(article)
    article.save(update_fields=["title"])
    note(article)
    article.refresh_from_db(fields=["status"])
    note(article)
    with article.tracker:
        article.body = "more text"
        article.save()
        note(article)
    note(article)
    for deferred in (
        Article.objects.only("title").get(),
        Article.objects.defer("title").get(),
    ):
        note(deferred)
        deferred.title = "three"
        note(deferred)
        deferred.save()
        note(deferred)
        deferred.refresh_from_db()
        note(deferred)
    assert {"before", "after", "made", "now"} == {kind for kind, *_ in notes}
    return [notes, Article.published.count(), Article.draft.count()]


def note(article):
    notes.append(["now", *tracked(article)])
