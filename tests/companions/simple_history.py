"""Rows for creates, updates, deletes and many-to-many changes; its own signals."""

from itertools import pairwise

from django.contrib.auth.models import User
from django.db import models
from simple_history.models import HistoricalRecords
from simple_history.signals import (
    post_create_historical_m2m_records,
    post_create_historical_record,
    pre_create_historical_m2m_records,
    pre_create_historical_record,
)
from simple_history.utils import bulk_update_with_history, update_change_reason

from tests.system.recording import plain

from ._notes import Notes

PACKAGES = ["django-simple-history"]
SETTINGS = {"INSTALLED_APPS": ["altdispatch", "simple_history"]}


class Place(models.Model):
    name = models.CharField(max_length=50)


class Poll(models.Model):
    question = models.CharField(max_length=50)
    places = models.ManyToManyField(Place)

    history = HistoricalRecords(m2m_fields=[places])


def add_reason(history_instance, **kwargs):
    if not history_instance.history_change_reason:
        history_instance.history_change_reason = "no reason given"


def drive():
    notes = Notes()
    pre_create_historical_record.connect(add_reason)
    notes.listen_to(
        {
            "before a record": pre_create_historical_record,
            "after a record": post_create_historical_record,
            "before records of places": pre_create_historical_m2m_records,
            "after records of places": post_create_historical_m2m_records,
        }
    )
    change()
    rows = [
        [plain(row), list(row.places.values_list("place__name", flat=True))]
        for row in Poll.history.order_by("history_id")
    ]
    changes = [
        [
            [change.field, plain(change.old), plain(change.new)]
            for change in diff.changes
        ]
        for diff in diffs(Poll.history.filter(id=1).order_by("history_id"))
    ]
    assert len(rows) == 9, rows
    assert {row.history_type for row in Poll.history.all()} == set("+~-")
    return {"rows": rows, "changes": changes, "calls": notes}


def change():
    """Make changes of each kind that the history records."""
    ada = User.objects.create(username="ada")
    here, there = (Place.objects.create(name=name) for name in ("here", "there"))
    poll = Poll.objects.create(question="Where?")
    poll._change_reason = "clearer"
    poll._history_user = ada
    poll.question = "Where to?"
    poll.save()
    poll.places.add(here, there)
    poll.places.remove(here)
    poll.places.clear()
    poll.skip_history_when_saving = True
    poll.save()
    del poll.skip_history_when_saving
    poll.save()
    update_change_reason(poll, "none")
    poll.question = "When?"
    bulk_update_with_history([poll], Poll, ["question"], default_change_reason="bulk")
    Poll.objects.create(question="Why?")
    poll.delete()


def diffs(rows):
    """Return the changes between each row and the next."""
    return [new.diff_against(old) for old, new in pairwise(rows)]
