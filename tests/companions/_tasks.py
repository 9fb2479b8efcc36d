"""Use receivers that run as tasks, in the same way with each engine."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import Signal

from altdispatch.tasks import When, connect_task, disconnect_task, on_commit

from ._notes import Notes

renamed = Signal()


class RollBack(Exception):
    pass


def name_of(instance: Group, created: bool, **kwargs: Any) -> dict[str, Any] | None:
    return {"name": instance.name} if created else None


async def new_name(name: str, **kwargs: Any) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"name": name}


def note_payload_errors(task: Any, notes: Notes) -> None:
    """Record the error of an invalid payload."""

    def whole(instance: Group, **kwargs: Any) -> dict[str, Any]:
        return {"group": instance}

    connect_task(post_save, task, Group, payload=whole, when="now")
    try:
        Group.objects.create(name="no JSON")
    except TypeError as error:
        notes.append(["no JSON", str(error)])
    disconnect_task(post_save, task, Group)


def use_tasks(
    task: Any, notes: Notes, ways: Sequence[When], work: Callable[[], None]
) -> None:
    """Enqueue tasks in each way that the engine supports, and run them."""
    note_payload_errors(task, notes)
    if "transaction" not in ways:
        try:
            connect_task(post_save, task, Group, payload=name_of)
        except ImproperlyConfigured as error:
            notes.append(["refused", str(error)])
    for when in ways:
        connect_task(post_save, task, "auth.Group", payload=name_of, when=when)
        connect_task(renamed, task, payload=new_name, when=when)
        use_transactions(when, notes)
        work()
        notes.append([when, disconnect_task(post_save, task, Group)])
        disconnect_task(renamed, task)


def use_transactions(when: When, notes: Notes) -> None:
    """Commit, roll back, and roll back to a savepoint."""

    def note(instance: Group, **kwargs: Any) -> None:
        notes.append(["committed", instance.name])

    post_save.connect(on_commit(note), sender=Group)
    with transaction.atomic():
        group = Group.objects.create(name=f"{when}: kept")
        group.save()
        try:
            with transaction.atomic():
                Group.objects.create(name=f"{when}: in a savepoint")
                raise RollBack
        except RollBack:
            notes.append("rolled back to a savepoint")
        async_to_sync(renamed.asend)(Group, name=f"{when}: by asend")
    try:
        with transaction.atomic():
            Group.objects.create(name=f"{when}: rolled back")
            raise RollBack
    except RollBack:
        notes.append("rolled back")
    post_save.disconnect(on_commit(note), sender=Group)
