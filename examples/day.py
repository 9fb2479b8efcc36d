"""A day in the shop: real work in this process, and what its receivers saw.

The demo runs this in the shop's folder, once with and once without altdispatch. It
prints a JSON object.
"""

import json
import logging
import os
import sys
from io import BytesIO
from wsgiref.util import setup_testing_defaults

import django
from django.core.management import call_command
from django.test import Client

import altdispatch

PASSWORD = "open sesame"


class Journal(logging.Handler):
    """Keeps what is logged, in the order in which it was."""

    def __init__(self):
        super().__init__()
        self.entries = []

    def emit(self, record):
        self.entries.append(f"{record.name}: {record.getMessage()}")


def main():
    sys.path.insert(0, os.getcwd())
    django.setup()
    journal = Journal()
    for name in ("audit", "orders", "django.dispatch"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(journal)
    call_command("migrate", verbosity=0)
    stock_up()
    answers = [*serve_customers(), *serve_staff()]
    result = {
        "installed": altdispatch.is_installed(),
        "status": str(altdispatch.status()),
        "journal": journal.entries,
        "answers": answers,
        "rows": read_rows(),
    }
    json.dump(result, sys.stdout)


def stock_up():
    """Fill the shop: saves, many-to-many changes, a query, a delete that cascades."""
    from catalogue.models import Book, Genre, Shelf

    genres = [Genre.objects.create(name=name) for name in ("Crime", "Poetry", "Travel")]
    shelves = [Shelf.objects.create(name=f"Shelf {letter}") for letter in "ABC"]
    for number in range(30):
        shelf = shelves[number % 3]
        book = Book.objects.create(title=f"Volume {number}", shelf=shelf, copies=9)
        book.genres.set(genres[number % 2 :])
    book.genres.remove(genres[1])
    book.genres.clear()
    genres[0].books.add(book)
    Book.objects.bulk_create([Book(title="In bulk", slug="in-bulk", shelf=shelves[0])])
    for book in Book.objects.all():
        book.save()
    shelves[2].delete()


def serve_customers():
    """Look around, meet an error, order twice; return the answers."""
    client = Client(SERVER_NAME="localhost", raise_request_exception=False)
    yield describe(client.get("/"))
    yield describe(client.get("/orders/report/"))
    yield describe(client.get("/books/volume-0/"))
    # A receiver fails where there is no address.
    for customer in ("someone@example.com", ""):
        order = {"book": 1, "copies": 2, "customer": customer}
        yield describe(client.post("/orders/", order))
    yield describe(client.get("/orders/report/"))
    yield get_from_wsgi_handler("/")


def serve_staff():
    """Log in to the admin, add a book, delete what was ordered; return the answers."""
    from django.contrib.auth.models import User

    User.objects.create_superuser("staff", password=PASSWORD)
    client = Client(SERVER_NAME="localhost")
    for password in ("wrong", PASSWORD):
        login = {"username": "staff", "password": password, "next": "/admin/"}
        yield describe(client.post("/admin/login/", login))
    book = {"title": "Added by hand", "shelf": 1, "genres": [1, 3], "copies": 1}
    yield describe(client.post("/admin/catalogue/book/add/", book))
    for path in ("/admin/orders/order/2/delete/", "/admin/catalogue/shelf/1/delete/"):
        yield describe(client.get(path))
        yield describe(client.post(path, {"post": "yes"}))
    yield describe(client.post("/admin/logout/"))


def get_from_wsgi_handler(path):
    """Put a request to the shop's WSGI application, as a server does."""
    from shop.wsgi import application

    environ = {"PATH_INFO": path, "wsgi.input": BytesIO()}
    setup_testing_defaults(environ)
    statuses = []
    response = application(environ, lambda status, headers: statuses.append(status))
    body = b"".join(response)
    response.close()
    return f"{path} {statuses[0]}, {body.count(b'<li>')} books"


def describe(response):
    """Return what is the same whenever the same is asked: no tokens, no keys."""
    where = response.headers.get("Location", "")
    return f"{response.request['PATH_INFO']} {response.status_code} {where}".strip()


def read_rows():
    """Return what is in the database in the end."""
    from django.contrib.auth.models import Permission, User

    from audit.models import Entry
    from catalogue.models import Book, Genre
    from orders.models import Line, Order

    queries = {
        "books": Book.objects.values_list("pk", "title", "slug", "copies"),
        "genres": Genre.objects.values_list("pk", "name", "book_count"),
        "orders": Order.objects.values_list("pk", "customer", "confirmed"),
        "lines": Line.objects.values_list("pk", "book", "copies"),
        "entries": Entry.objects.values_list("pk", "what"),
        "permissions": Permission.objects.values_list("pk", "codename"),
        "users": User.objects.filter(last_login__isnull=False).values_list("username"),
    }
    return {name: [*query.order_by("pk")] for name, query in queries.items()}


if __name__ == "__main__":
    main()
