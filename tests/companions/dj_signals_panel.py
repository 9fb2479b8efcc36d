"""Its list of all signals and their receivers, and its page of each."""

import re

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models.signals import m2m_changed, post_save, pre_save
from django.test import Client
from django.urls import include, path

from ._notes import Notes

PACKAGES = ["dj-signals-panel"]
SETTINGS = {
    "INSTALLED_APPS": [
        "altdispatch",
        "dj_control_room_base",
        "dj_signals_panel",
        "django.contrib.admin",
    ],
    "DJ_SIGNALS_PANEL_SETTINGS": {
        "SHOW_SOURCE": True,
        "SIGNAL_MODULES": ["django.contrib.auth.signals"],
    },
}

ROOT = "/admin/dj-signals-panel/"

urlpatterns = [
    path("admin/dj-control-room-base/", include("dj_control_room_base.urls")),
    path("admin/dj-signals-panel/", include("dj_signals_panel.urls")),
    path("admin/", admin.site.urls),
]


class Clerk:
    def file(self, **kwargs):
        pass


async def telegraph(**kwargs):
    pass


def drive():
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    before = get_pages(client)
    clerk = Clerk()
    notes = Notes()
    notes.listen("anything", post_save)
    post_save.connect(clerk.file, sender=Group, dispatch_uid="clerk")
    post_save.connect(telegraph)
    pre_save.connect(clerk.file, sender=User)
    m2m_changed.connect(clerk.file, sender=User.groups.through)
    connected = get_pages(client)
    del clerk
    gone = get_pages(client)
    assert "Clerk.file" in str(connected)
    assert "telegraph" in str(connected)
    assert "Clerk.file" not in str(before + gone)
    return [before, connected, gone, notes]


def get_pages(client):
    """Return the list of signals, and all pages that it links to."""
    page = get(client, ROOT)
    links = re.findall(rf'href="({ROOT}detail/[^"]*)"', "\n".join(page))
    assert f"{ROOT}detail/django.db.models.signals.post_save/" in links
    return [page, *(get(client, link) for link in links)]


def get(client, link):
    """Return the lines of a page's main part: the rest contains a token."""
    response = client.get(link)
    assert response.status_code == 200
    _, main = response.content.decode().split("<main")
    return main.splitlines()
