from django.db import models


class Order(models.Model):
    number = models.IntegerField(unique=True)


class Done(models.Model):
    """The task of an order has been run."""

    number = models.IntegerField()
