"""``altdispatch.tasks`` with Celery on Redis, in each way, and with its worker."""

import time
from pathlib import Path

from celery.contrib.testing.worker import start_worker
from django_tasks_fennel import app as fennel
from django_tasks_fennel import compat
from redis import Redis

from ._notes import Notes
from ._redis import redis_server
from ._tasks import use_tasks

try:
    from django.tasks import task
except ImportError:
    # Before Django 6.0.
    from django_tasks import task

PACKAGES = ["django-tasks-fennel", "celery"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "django_tasks_fennel"],
    "TASKS": {"default": {"BACKEND": "django_tasks_fennel.CeleryBackend"}},
    "CELERY_RESULT_EXTENDED": True,
}

# Celery runs Django's checks, which need them.
urlpatterns = []

# The socket is in the current folder.
REDIS = f"redis+socket://{Path.cwd()}/redis.sock"
fennel.app.conf.update(broker_url=REDIS, result_backend=REDIS)

# Calls in this thread, and in the worker's.
notes, worked = Notes(), Notes()


@task()
def record(name):
    worked.append(["run", name])


def count_waiting():
    client = Redis(unix_socket_path="redis.sock")
    # Each priority has its own queue.
    return sum(client.llen(queue) for queue in client.keys("default*"))


def work():
    expected = count_waiting()
    with start_worker(fennel.app, perform_ping_check=False):
        deadline = time.monotonic() + 60
        while len(worked) < expected:
            assert time.monotonic() < deadline, "the worker runs no tasks"
            time.sleep(0.01)


def drive():
    with redis_server():
        notes.listen("task_enqueued", compat.task_enqueued)
        use_tasks(
            record, notes, ["commit", "now"], lambda: notes.append(count_waiting())
        )
        work()
    assert ["run", "commit: kept"] in worked
    assert ["run", "commit: by asend"] in worked
    assert ["run", "commit: rolled back"] not in worked
    assert ["run", "now: rolled back"] in worked
    return [notes, worked]
