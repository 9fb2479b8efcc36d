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
    # The field connects a receiver to post_init.
    published_at = MonitorField(monitor="status", when=["published"])

    tracker = FieldTracker()
    title_tracker = FieldTracker(fields=["title"])

    def __str__(self):
        return self.title


def record_at(moment):
    """Return a receiver that records the trackers' state at that moment."""

    def receive(instance, update_fields=None, **kwargs):
        fields = None if update_fields is None else sorted(update_fields)
        notes.append([moment, fields, *tracked(instance)])

    return receive


def tracked(article):
    """Return the trackers' state for an article."""
    titles = article.title_tracker
    return [
        sorted(article.get_deferred_fields()),
        plain(article.tracker.changed()),
        {name: article.tracker.has_changed(name) for name in ("status", "body")},
        [titles.previous("title"), titles.has_changed("title"), titles.changed()],
    ]


def drive():
    pre_save.connect(record_at("before"), sender=Article, weak=False)
    post_save.connect(record_at("after"), sender=Article, weak=False)
    notes.listen("made", post_init, sender=Article)
    article = Article(title="one", body="text")
    record_now(article)
    article.save()
    record_now(article)
    article.title = "two"
    article.status = "published"
    record_now(article)
    article.save(update_fields=["title"])
    record_now(article)
    article.refresh_from_db(fields=["status"])
    record_now(article)
    with article.tracker:
        article.body = "more text"
        article.save()
        record_now(article)
    record_now(article)
    for deferred in (
        Article.objects.only("title").get(),
        Article.objects.defer("title").get(),
    ):
        record_now(deferred)
        deferred.title = "three"
        record_now(deferred)
        deferred.save()
        record_now(deferred)
        deferred.refresh_from_db()
        record_now(deferred)
    assert {"before", "after", "made", "now"} == {kind for kind, *_ in notes}
    return [notes, Article.published.count(), Article.draft.count()]


def record_now(article):
    notes.append(["now", *tracked(article)])
