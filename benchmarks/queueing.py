"""How long does a task receiver take, compared with queueing the task directly?

    python -m benchmarks.queueing [--rounds 500]

Both take turns in one process. It measures the CPU time of the thread, so that other
work on the machine matters little, and prints the median of the rounds. In each round,
the tasks are queued in one transaction.
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import thread_time

import django
from django.conf import settings

PER_ROUND = 10
ENGINES = {
    "django-tasks-db": "django_tasks_db.DatabaseBackend",
    "immediate": "{}.backends.immediate.ImmediateBackend",
    "dummy": "{}.backends.dummy.DummyBackend",
}


def configure() -> None:
    package = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    settings.configure(
        INSTALLED_APPS=["altdispatch", "django_tasks_db"],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        },
        TASKS={
            "default": {"BACKEND": "django_tasks_db.DatabaseBackend"},
            **{
                name: {"BACKEND": backend.format(package)}
                for name, backend in ENGINES.items()
            },
        },
        ALTDISPATCH={"TASK_DATABASES": {"immediate": "default", "dummy": "default"}},
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=500)
    rounds = parser.parse_args().rounds
    configure()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print("Queueing by a signal, as a multiple of task.enqueue():")
    for name in ENGINES:
        for when in ("transaction", "commit", "now"):
            ratio, cost = compare(name, when, rounds)
            print(f"  {name:16} {when:12} {ratio:.2f}  (enqueue: {cost * 1e6:.0f} µs)")


def compare(name: str, when: str, rounds: int) -> tuple[float, float]:
    """Return the ratio of a send to ``enqueue()``, and the seconds of the latter."""
    from django.dispatch import Signal
    from django_tasks_db.models import DBTaskResult

    from altdispatch.tasks import connect_task
    from benchmarks.queueing_tasks import index

    task = index.using(backend=name)
    placed = Signal()
    connect_task(
        placed, task, payload=lambda number, **kwargs: {"number": number}, when=when
    )

    def send(number: int) -> None:
        placed.send(None, number=number, created=True, update_fields=None, raw=False)

    def enqueue(number: int) -> None:
        task.enqueue(number=number)

    times: dict[Callable[[int], None], list[float]] = {send: [], enqueue: []}
    for _ in range(rounds):
        for function, taken in times.items():
            taken.append(time_round(function))
        DBTaskResult.objects.all().delete()
        getattr(task.get_backend(), "clear", lambda: None)()
    direct = median(times[enqueue])
    return median(times[send]) / direct, direct / PER_ROUND


def time_round(function: Callable[[int], None]) -> float:
    from django.db import transaction

    start = thread_time()
    with transaction.atomic():
        for number in range(PER_ROUND):
            function(number)
    return thread_time() - start


if __name__ == "__main__":
    main()
