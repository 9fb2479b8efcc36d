"""Its signals panel, rendered for requests, with receivers from several modules."""

import re

from debug_toolbar.toolbar import debug_toolbar_urls
from django.contrib.auth.models import Group
from django.core.signals import request_started
from django.db.models.signals import m2m_changed, post_save, pre_save
from django.dispatch import Signal
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from ._notes import Notes

PACKAGES = ["django-debug-toolbar"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "django.contrib.staticfiles", "debug_toolbar"],
    "MIDDLEWARE": ["debug_toolbar.middleware.DebugToolbarMiddleware"],
    "DEBUG": True,
    "INTERNAL_IPS": ["127.0.0.1"],
    "DEBUG_TOOLBAR_CONFIG": {
        "EXTRA_SIGNALS": [
            "django.contrib.auth.signals.user_logged_in",
            "tests.companions.debug_toolbar.opened",
        ]
    },
}

opened = Signal()


class Door:
    def open(self, **kwargs):
        pass


def ring(**kwargs):
    pass


async def greet(**kwargs):
    pass


def page(request):
    opened.send(sender=None)
    Group.objects.create(name=f"group {Group.objects.count()}")
    return HttpResponse("<html><body>A page.</body></html>")


urlpatterns = [path("", page), *debug_toolbar_urls()]


def drive():
    notes = Notes()
    door = Door()
    client = Client()
    panels = [panel(client)]
    opened.connect(ring)
    opened.connect(door.open, dispatch_uid="door")
    opened.connect(greet)
    notes.listen_to(
        {
            "saving": pre_save,
            "saved": post_save,
            "changed": m2m_changed,
            "started": request_started,
        }
    )
    pre_save.connect(door.open, sender=Group)
    panels.append(panel(client))
    del door
    panels.append(panel(client))
    opened.disconnect(ring)
    panels.append(panel(client))
    assert "Door.open, greet" in panels[1][1]
    assert len({content for _, content in panels}) == 4
    return [panels, notes]


def panel(client):
    """Return what the toolbar shows about the signals of a request."""
    html = client.get("/").content.decode()
    (request_id,) = re.findall(r'data-request-id="(\w+)"', html)
    (subtitle,) = re.findall(r"\d+ receivers of \d+ signals", html)
    response = client.get(
        "/__debug__/render_panel/",
        {"request_id": request_id, "panel_id": "SignalsPanel"},
    )
    return [subtitle, response.json()["content"]]
