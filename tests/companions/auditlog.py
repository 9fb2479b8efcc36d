"""Entries for changes, with the actor of the middleware or of ``set_actor()``."""

from auditlog.context import disable_auditlog, set_actor
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from auditlog.signals import accessed, post_log, pre_log
from django.contrib.auth.models import Group, User
from django.db import models
from django.db.models.signals import pre_save
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from ._notes import Notes, receivers_of

PACKAGES = ["django-auditlog"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "auditlog"],
    "MIDDLEWARE": ["auditlog.middleware.AuditlogMiddleware"],
}

notes = Notes()


class Note(models.Model):
    title = models.CharField(max_length=50)
    secret = models.CharField(max_length=50, default="")
    groups = models.ManyToManyField(Group)

    def __str__(self):
        return self.title


auditlog.register(Note, m2m_fields={"groups"}, mask_fields=["secret"])


def write(request):
    note = Note.objects.create(title="from a request", secret="0123456789")
    note.secret = "9876543210"
    note.save()
    notes.append(["connected in the request", receivers_of(pre_save)])
    return HttpResponse(note.pk)


urlpatterns = [path("write/", write)]


def refuse(instance, **kwargs):
    return instance.title != "private"


def drive():
    before = receivers_of(pre_save)
    pre_log.connect(refuse)
    notes.listen("before an entry", pre_log)
    notes.listen("after an entry", post_log)
    ada, bob = (User.objects.create(username=name) for name in ("ada", "bob"))
    change("by nobody")
    with set_actor(ada, remote_addr="192.0.2.1"):
        change("by ada")
        with set_actor(bob):
            change("by bob")
        change("by nobody, or by ada")
    client = Client()
    client.get("/write/")
    client.force_login(ada)
    client.get("/write/", headers={"x-forwarded-for": "192.0.2.2"})
    with disable_auditlog():
        change("unseen")
    auditlog.unregister(Note)
    change("unregistered")
    entries = [
        [
            entry.get_action_display(),
            entry.object_repr,
            entry.changes,
            entry.actor and entry.actor.username,
            entry.remote_addr,
        ]
        for entry in LogEntry.objects.order_by("pk")
    ]
    assert {action for action, *_ in entries} == {
        "create",
        "update",
        "delete",
        "access",
    }
    assert {"ada", "bob", None} <= {actor for *_, actor, _ in entries}
    return [entries, notes, before, receivers_of(pre_save)]


def change(title):
    """Change a note in each way that is logged."""
    note = Note.objects.create(title=title)
    note.title += ", then"
    note.save()
    note.save()
    note.groups.add(
        Group.objects.create(name=title), Group.objects.create(name=f"{title} 2")
    )
    note.groups.remove(Group.objects.get(name=title))
    note.groups.clear()
    accessed.send(Note, instance=note)
    Note.objects.create(title="private").delete()
    note.delete()
