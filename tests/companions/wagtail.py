"""Signals of pages that are published, moved, renamed and deleted in a real tree."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import models
from django.db.models.signals import post_delete, pre_delete
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path
from django.utils import timezone
from wagtail import urls
from wagtail.contrib.redirects.models import Redirect
from wagtail.models import Page, PageLogEntry, ReferenceIndex, Site
from wagtail.signals import (
    page_published,
    page_slug_changed,
    page_unpublished,
    post_page_move,
    pre_page_move,
    published,
    unpublished,
)

from tests.system.recording import plain

from ._notes import Notes

PACKAGES = ["wagtail"]
SETTINGS = {
    "INSTALLED_APPS": [
        "altdispatch",
        "wagtail.contrib.redirects",
        "wagtail",
        "modelcluster",
        "taggit",
    ],
    "MIDDLEWARE": ["wagtail.contrib.redirects.middleware.RedirectMiddleware"],
    "WAGTAIL_SITE_NAME": "Companions",
}


class ArticlePage(Page):
    body = models.CharField(max_length=50)

    def serve(self, request, *args, **kwargs):
        return HttpResponse(self.body)


urlpatterns = [path("", include(urls))]


def drive():
    notes = Notes()
    notes.listen_to(
        {
            "a page is published": page_published,
            "a page is unpublished": page_unpublished,
            "a slug has changed": page_slug_changed,
            "a page is to be moved": pre_page_move,
            "a page has been moved": post_page_move,
            "something is published": published,
            "something is unpublished": unpublished,
        }
    )
    notes.listen("an article is published", page_published, sender=ArticlePage)
    notes.listen("to be deleted", pre_delete, sender=ArticlePage)
    notes.listen("deleted", post_delete, sender=ArticlePage)
    answers = edit(User.objects.create_superuser("ada"))
    return [
        notes,
        answers,
        [plain(page) for page in Page.objects.order_by("path")],
        list(
            Redirect.objects.order_by("pk").values_list(
                "old_path", "redirect_page__slug"
            )
        ),
        [plain(reference) for reference in ReferenceIndex.objects.order_by("pk")],
        list(PageLogEntry.objects.order_by("pk").values_list("action", "label")),
    ]


def edit(user):
    """Edit pages as an editor does; return the site's responses afterwards."""
    home = Site.objects.get().root_page
    news = home.add_child(instance=ArticlePage(title="News", body="All the news."))
    weather = news.add_child(
        instance=ArticlePage(title="Weather", body="Rain.", live=False)
    )
    weather.save_revision(user=user).publish(user=user)
    weather.body = "Sun."
    weather.save_revision(user=user).publish(user=user)
    weather.slug = "forecast"
    weather.save_revision(user=user).publish(user=user)
    news.slug = "headlines"
    news.save()
    weather.refresh_from_db()
    weather.move(home, pos="last-child", user=user)
    weather.refresh_from_db()
    copied = home.copy(recursive=True, update_attrs={"slug": "copy"}, user=user)
    weather.go_live_at = timezone.now() - timedelta(days=1)
    weather.save_revision(approved_go_live_at=weather.go_live_at)
    call_command("publish_scheduled")
    news.refresh_from_db()
    news.unpublish(user=user)
    copied.refresh_from_db()
    copied.unpublish(user=user)
    copied.delete(user=user)
    client = Client()
    paths = ["/forecast/", "/weather/", "/news/weather/", "/headlines/", "/copy/"]
    statuses = [[path, client.get(path).status_code] for path in paths]
    news.delete()
    return statuses
