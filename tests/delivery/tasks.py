from django.conf import settings
from django.db.models.signals import post_save

from altdispatch.tasks import task_receiver

from .models import Done, Order

try:
    if settings.DELIVERY_ENGINE == "rq":
        # On every release, its backend is one of the package django_tasks.
        raise ImportError
    from django.tasks import task
except ImportError:
    from django_tasks import task


def number_of(instance, **kwargs):
    return {"number": instance.number}


@task_receiver(post_save, Order, payload=number_of, when=settings.DELIVERY_WHEN)
@task()
def deliver(number):
    Done.objects.create(number=number)
