"""The shop's models."""

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        app_label = "shop"

    def __str__(self) -> str:
        return self.name


class Book(models.Model):
    title = models.CharField(max_length=100)
    author = models.ForeignKey(Author, models.CASCADE, null=True)
    pages = models.IntegerField()
    in_print = models.BooleanField(default=True)

    class Meta:
        app_label = "shop"

    def __str__(self) -> str:
        return self.title
