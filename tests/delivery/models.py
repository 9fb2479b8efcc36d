from django.db import models


class Order(models.Model):
    number = models.IntegerField(unique=True)


class Done(models.Model):
    """A record that an order's task has run."""

    number = models.IntegerField()
