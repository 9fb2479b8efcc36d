"""The task that ``queueing.py`` queues: tasks must be importable."""

try:
    from django.tasks import task
except ImportError:
    # Before Django 6.0.
    from django_tasks import task


@task()
def index(number: int) -> None:
    pass
