from django.db import models
from django.db.models.signals import post_delete, post_save

from .. import diary


class Page(models.Model):
    text = models.CharField(max_length=50)


def on_bread(instance, **kwargs):
    page = Page.objects.create(text=f"{instance.name} baked")
    diary.write("ledger has page", page.pk)


# The sender isn't loaded yet.
post_save.connect(on_bread, sender="bakery.Loaf", dispatch_uid="ledger")
post_delete.connect(on_bread, sender="bakery.NoSuchModel")
