"""The shop's two pages, each by a synchronous and by an asynchronous view."""

from django.http import HttpResponse
from django.template import engines
from django.urls import path

from benchmarks.shop.models import Book

books_template = engines["django"].from_string(
    "<title>Books</title><ul>"
    "{% for book in books %}<li>{{ book.title }}, {{ book.pages }} pages</li>"
    "{% endfor %}</ul>"
)


def home(request):
    return HttpResponse("Welcome to the shop.", content_type="text/plain")


def books(request):
    page = books_template.render({"books": Book.objects.order_by("pk")}, request)
    return HttpResponse(page)


async def home_asynchronously(request):
    return home(request)


async def books_asynchronously(request):
    found = [book async for book in Book.objects.order_by("pk")]
    return HttpResponse(books_template.render({"books": found}, request))


urlpatterns = [
    path("", home),
    path("books/", books),
    path("async/", home_asynchronously),
    path("async/books/", books_asynchronously),
]
