from django.db import models


class Order(models.Model):
    customer = models.CharField(max_length=100)


class Receipt(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
