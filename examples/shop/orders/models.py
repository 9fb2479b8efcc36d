from django.db import models

from catalogue.models import Book


class Order(models.Model):
    customer = models.EmailField(blank=True)
    placed = models.DateTimeField(auto_now_add=True)
    confirmed = models.BooleanField(default=False)

    def __str__(self):
        return f"Order {self.pk}"


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    book = models.ForeignKey(Book, models.CASCADE)
    copies = models.PositiveIntegerField(default=1)

    def __str__(self):
        return f"{self.copies} of {self.book}"
