from django.db import models
from django.db.models.signals import class_prepared, post_save, pre_delete
from django.dispatch import receiver

from .. import diary
from .signals import baked, sold


@receiver(class_prepared)
def on_class(sender, **kwargs):
    # Migrations create classes too, in the order of sets.
    if sender.__module__ != "__fake__":
        diary.write("there is a class", sender._meta.label)


class Loaf(models.Model):
    name = models.CharField(max_length=50)


class Bun(Loaf):
    class Meta:
        proxy = True


@receiver(post_save, sender=Loaf)
def on_loaf(instance, created, **kwargs):
    for _, response in baked.send(sender=Loaf, name=instance.name):
        diary.write("baked:", response)


@receiver(pre_delete, sender=Loaf)
def on_sale(instance, origin, **kwargs):
    for _, response in sold.send_robust(sender=Loaf, name=instance.name):
        diary.write("sold:", response)
