"""``altdispatch.tasks`` with RQ on Redis, in each way, and with its worker."""

import django_rq
from django.core.management import call_command
from django_tasks import signals, task

from ._notes import Notes
from ._redis import redis_server
from ._tasks import use_tasks

PACKAGES = ["django-tasks-rq", "rq"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "django_rq"],
    "TASKS": {"default": {"BACKEND": "django_tasks_rq.RQBackend"}},
    # The socket is in the current folder.
    "RQ_QUEUES": {"default": {"UNIX_SOCKET_PATH": "redis.sock", "DB": 0}},
}

notes = Notes()


@task()
def record(name):
    notes.append(["run", name])


def work():
    notes.append(["waiting", len(django_rq.get_queue("default"))])
    call_command(
        "rqworker",
        "default",
        burst=True,
        verbosity=0,
        # The worker must run in this process, which has the notes.
        worker_class="rq.SimpleWorker",
        job_class="django_tasks_rq.Job",
    )


def drive():
    with redis_server():
        notes.listen("task_enqueued", signals.task_enqueued)
        use_tasks(record, notes, ["commit", "now"], work)
    assert ["run", "commit: kept"] in notes
    assert ["run", "commit: by asend"] in notes
    assert ["run", "commit: rolled back"] not in notes
    assert ["run", "now: rolled back"] in notes
    return notes
