from django.contrib import admin

from .models import Book, Genre, Shelf

admin.site.register(Shelf)


@admin.register(Genre)
class GenreAdmin(admin.ModelAdmin):
    list_display = ["name", "book_count"]
    readonly_fields = ["book_count"]


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    list_display = ["title", "shelf", "copies"]
    list_filter = ["shelf", "genres"]
    search_fields = ["title"]
