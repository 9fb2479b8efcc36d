from django.views.generic import DetailView, ListView

from .models import Book


class BookList(ListView):
    queryset = Book.objects.select_related("shelf").order_by("title")


class BookDetail(DetailView):
    model = Book
