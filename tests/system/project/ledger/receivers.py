from django.core.signals import request_finished, request_started
from django.dispatch import receiver

from .. import diary


@receiver([request_started, request_finished], dispatch_uid="ledger")
def on_request(sender, **kwargs):
    diary.write("ledger sees a request at", sender.__name__)


def from_ready(sender, instance, **kwargs):
    diary.write("ledger expects", instance.name, instance.pk)
