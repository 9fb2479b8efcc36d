"""Its own signals, and receivers of Django's that delay a task until the commit."""

from queue import Queue

from celery import Celery, shared_task, signals
from celery.contrib.testing.worker import start_worker
from celery.utils.dispatch import Signal
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import Signal as DjangoSignal

from tests.system.recording import describe

from ._notes import Notes

PACKAGES = ["celery"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch"],
    "CELERY_BROKER_URL": "memory://",
}

# Celery runs Django's checks, which need them.
urlpatterns = []

app = Celery("companions")
app.config_from_object("django.conf:settings", namespace="CELERY")

# Calls in the sender's thread, and in the worker's, which may be another one.
sent, worked = Notes(), Notes()

SENT = ["before_task_publish", "after_task_publish"]
WORKED = ["task_prerun", "task_postrun", "task_success", "task_failure"]
#: The arguments that don't differ between runs.
KEPT = ["args", "kwargs", "routing_key", "state", "retval", "result", "exception"]


@shared_task
def welcome(name):
    return User.objects.create(username=name).pk


@shared_task
def refuse(name):
    raise ValueError(f"no {name}")


def delay_welcome(instance, **kwargs):
    welcome.delay_on_commit(f"the first of {instance.name}")


def delay_refusal(instance, **kwargs):
    transaction.on_commit(lambda: refuse.delay(instance.name))


def drive():
    for notes, names in (sent, SENT), (worked, WORKED):
        for name in names:
            listen(notes, name)
    sent.listen("group saved", post_save, sender=Group)
    worked.listen("user saved", post_save, sender=User)
    post_save.connect(delay_welcome, sender=Group)
    post_delete.connect(delay_refusal, sender=Group)
    seen = []
    app.conf.task_always_eager = True
    change("eager")
    seen.append([sent.take(), worked.take()])
    app.conf.task_always_eager = False
    ended = Queue()
    signals.task_postrun.connect(lambda **kwargs: ended.put(None), weak=False)
    with start_worker(app, perform_ping_check=False):
        change("in a worker")
        for _ in range(2):
            ended.get(timeout=30)
    seen.append([sent.take(), worked.take()])
    assert all("task_prerun" in str(notes) for _, notes in seen)
    assert "before_task_publish" in str(seen[1][0])
    assert not issubclass(Signal, DjangoSignal)
    return [seen, [Signal.send.__module__, Signal.connect.__module__]]


def change(name):
    """Save and delete a group in a transaction; save another one and roll back."""
    with transaction.atomic():
        Group.objects.create(name=name).delete()
        sent.append("to be committed")
    try:
        with transaction.atomic():
            Group.objects.create(name="never")
            raise ValueError
    except ValueError:
        sent.append("rolled back")


def listen(notes, name):
    """Record the calls of one of Celery's signals."""

    def receive(sender, signal, **arguments):
        kept = {name: arguments[name] for name in KEPT if name in arguments}
        task = getattr(sender, "name", sender)
        notes.append([name, task, sorted(arguments), describe(kept)])

    getattr(signals, name).connect(receive, weak=False)
