from django.db import models
from django.urls import reverse


class Shelf(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        verbose_name_plural = "shelves"

    def __str__(self):
        return self.name


class Genre(models.Model):
    name = models.CharField(max_length=100)
    book_count = models.PositiveIntegerField(default=0, editable=False)

    def __str__(self):
        return self.name


class Book(models.Model):
    title = models.CharField(max_length=200)
    slug = models.SlugField(max_length=200, unique=True, editable=False)
    shelf = models.ForeignKey(Shelf, models.CASCADE)
    genres = models.ManyToManyField(Genre, related_name="books", blank=True)
    copies = models.IntegerField(default=0)

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("book", args=[self.slug])
