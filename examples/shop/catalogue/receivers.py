from django.db.models.signals import m2m_changed, post_delete, pre_save
from django.dispatch import receiver
from django.utils.text import slugify

from .models import Book, Genre


@receiver(pre_save, sender=Book)
def make_slug(instance, **kwargs):
    instance.slug = slugify(instance.title)


@receiver(m2m_changed, sender=Book.genres.through)
@receiver(post_delete, sender=Book)
def count_books(**kwargs):
    if kwargs.get("action", "").startswith("pre_"):
        return
    for genre in Genre.objects.order_by("pk"):
        genre.book_count = genre.books.count()
        genre.save(update_fields=["book_count"])
