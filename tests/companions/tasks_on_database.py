"""``altdispatch.tasks`` with django-tasks-db, in each way, and with its worker."""

from django.core.management import call_command
from django_tasks_db import compat
from django_tasks_db.models import DBTaskResult

from ._notes import Notes
from ._tasks import use_tasks

try:
    from django.tasks import task
except ImportError:
    # Before Django 6.0.
    from django_tasks import task

PACKAGES = ["django-tasks-db"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "django_tasks_db"],
    "TASKS": {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
}

notes = Notes()


@task()
def record(name):
    notes.append(["run", name])


def work():
    call_command("db_worker", batch=True, interval=0, verbosity=0, reload=False)


def drive():
    for name in ("task_enqueued", "task_started", "task_finished"):
        notes.listen(name, getattr(compat, name))
    use_tasks(record, notes, ["transaction", "commit", "now"], work)
    assert ["run", "transaction: kept"] in notes
    assert ["run", "transaction: by asend"] in notes
    assert ["run", "transaction: in a savepoint"] not in notes
    assert ["run", "commit: rolled back"] not in notes
    rows = DBTaskResult.objects.order_by("enqueued_at")
    return [notes, list(rows.values_list("args_kwargs", "status"))]
