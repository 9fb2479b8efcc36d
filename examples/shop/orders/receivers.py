import logging

from django.db.models import F
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from catalogue.models import Book

from .models import Line
from .signals import order_placed

logger = logging.getLogger(__name__)


@receiver(post_save, sender=Line)
def take_from_stock(instance, created, **kwargs):
    if created:
        books = Book.objects.filter(pk=instance.book_id)
        books.update(copies=F("copies") - instance.copies)


@receiver(post_delete, sender=Line)
def return_to_stock(instance, **kwargs):
    books = Book.objects.filter(pk=instance.book_id)
    books.update(copies=F("copies") + instance.copies)


@receiver(order_placed)
def confirm(order, **kwargs):
    if not order.customer:
        raise ValueError("There is no address to send the confirmation to.")
    order.confirmed = True
    order.save(update_fields=["confirmed"])


@receiver(order_placed)
async def tell_warehouse(order, **kwargs):
    logger.info("The warehouse packs order %s.", order.pk)
