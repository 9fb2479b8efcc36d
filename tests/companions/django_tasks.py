"""Signals of tasks: of the backport's backends, and of a worker on the database."""

import asyncio

from django.core.management import call_command
from django_tasks import signals as backport
from django_tasks import task
from django_tasks_db import compat
from django_tasks_db.models import DBTaskResult

from ._notes import Notes

try:
    from django.tasks import task as task_on_database
except ImportError:
    # Before Django 6.0, the package uses the backport.
    task_on_database = task

PACKAGES = ["django-tasks", "django-tasks-db"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "django_tasks", "django_tasks_db"],
    "TASKS": {
        "default": {"BACKEND": "django_tasks_db.DatabaseBackend"},
        "immediate": {"BACKEND": "django_tasks.backends.immediate.ImmediateBackend"},
        "dummy": {"BACKEND": "django_tasks.backends.dummy.DummyBackend"},
    },
}

notes = Notes()


@task(backend="immediate")
def add(number, another):
    notes.append("adding")
    return number + another


@task(backend="immediate")
async def add_later(number, another):
    notes.append("adding later")
    return number + another


@task(backend="immediate")
def divide(number, another):
    notes.append("dividing")
    return number / another


@task_on_database
def multiply(number, another):
    notes.append("multiplying")
    return number * another


@task_on_database
def subtract(number, another):
    raise ValueError(f"not {number} - {another}")


async def receive(task_result, **kwargs):
    notes.append(["received", task_result.task.name, task_result.status.name])


def drive():
    for whose, signals in {"backport": backport, "database": compat}.items():
        for name in ("task_enqueued", "task_started", "task_finished"):
            signal = getattr(signals, name)
            notes.listen(f"{whose}, {name}", signal)
            signal.connect(receive)
    for each in (add, add_later, divide):
        for backend in ("immediate", "dummy"):
            enqueue(each.using(backend=backend))
    for each in (multiply, subtract):
        enqueue(each)
    assert ["received", "multiply", "READY"] in notes
    notes.append("the worker")
    call_command("db_worker", batch=True, interval=0, verbosity=0, reload=False)
    assert ["received", "multiply", "SUCCESSFUL"] in notes
    results = DBTaskResult.objects.order_by("enqueued_at").values_list(
        "task_path", "args_kwargs", "status", "return_value", "exception_class_path"
    )
    assert len(results) == 4
    return [notes, list(results)]


def enqueue(each):
    """Enqueue a task from synchronous code, and from asynchronous code."""
    each.enqueue(1, another=0)
    asyncio.run(each.aenqueue(2, 3))
