from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_save

from altdispatch.tasks import connect_task


def order_id(instance, created, **kwargs):
    return {"order_id": instance.pk} if created else None


class ReceiptsConfig(AppConfig):
    name = "receipts"

    def ready(self):
        from .tasks import send_receipt

        connect_task(
            post_save,
            send_receipt,
            sender="receipts.Order",
            payload=order_id,
            when=settings.WHEN,
        )
