"""Use the public interface as a strictly typed project does. It is checked, not run.

Wrong uses have a "type: ignore", which the type checker reports if it isn't needed.
"""

from collections.abc import Callable
from typing import Any, assert_type

import django.dispatch
from django.db.models.signals import post_save, pre_save
from django.tasks import task

import altdispatch
from altdispatch import Signal, Status, receiver
from altdispatch.hybrid import hybrid
from altdispatch.tasks import connect_task, disconnect_task, on_commit, task_receiver
from altdispatch.utils import Block, Sent, connected, muted, recorded

from .models import Book

order_placed = Signal()
caching = Signal(use_caching=True)
as_djangos: django.dispatch.Signal = order_placed

Responses = list[tuple[Callable[..., Any], Any]]


@receiver(order_placed)
def note(sender: type[Book], *, number: int = 0, **kwargs: Any) -> int:
    return number


@receiver([post_save, pre_save], sender=Book, dispatch_uid="index")
def index(instance: Book, **kwargs: Any) -> None:
    assert_type(instance.title, str)


@receiver(order_placed)
async def tell(**kwargs: Any) -> bytes:
    return b""


both = hybrid(note, tell)
hybrid(note, note)  # type: ignore[arg-type]


@receiver(order_placed)
@hybrid
def log(**kwargs: Any) -> None: ...


@log.asynchronous
async def alog(**kwargs: Any) -> None: ...


# The decorator keeps the type of the function.
assert_type(note(Book, number=1), int)


def send() -> None:
    order_placed.connect(note, sender=Book, weak=False)
    assert_type(order_placed.disconnect(note, sender=Book), bool)
    assert_type(order_placed.has_listeners(Book), bool)
    assert_type(order_placed.send(Book, number=1), Responses)
    assert_type(order_placed.send_robust(sender=Book), Responses)
    order_placed.connect(both)
    order_placed.connect(log)
    order_placed.send()  # type: ignore[call-arg]
    order_placed.connect("note")  # type: ignore[arg-type]


async def asend() -> None:
    assert_type(await tell(), bytes)
    assert_type(await order_placed.asend(Book), Responses)
    assert_type(await order_placed.asend_robust(Book), Responses)


def swap() -> None:
    assert_type(altdispatch.install(force=True), bool)
    assert_type(altdispatch.uninstall(), bool)
    assert_type(altdispatch.is_installed(), bool)
    assert_type(altdispatch.status(), Status)
    assert_type(altdispatch.status().patched, dict[str, str])


def use_helpers() -> None:
    assert_type(muted(post_save, order_placed, senders=[Book]), Block[None])
    with recorded(order_placed) as sends, muted(post_save):
        assert_type(sends, list[Sent])
        assert_type(sends[0].named["number"], Any)
        assert_type(sends[0].error, BaseException | None)
    with connected(note, order_placed, senders=[Book]) as entered:
        entered()
    with connected(index, post_save, pre_save, senders=["shop.Book"]):
        pass
    with muted(post_save, receivers=[index]), recorded(post_save, pre_save) as sends:
        assert_type(sends[0].signal, django.dispatch.Signal)
    muted("post_save")  # type: ignore[arg-type]
    muted(post_save, receivers=["index"])  # type: ignore[list-item]
    connected("note", order_placed)  # type: ignore[arg-type]
    recorded(order_placed, senders=1)  # type: ignore[arg-type]


@muted(post_save)
def import_books(count: int) -> list[Book]:
    return [Book(title=str(number)) for number in range(count)]


@connected(note, order_placed)
async def aimport_books(count: int) -> int:
    async with muted(post_save), recorded(post_save) as sends:
        return len(sends)


assert_type(import_books(1), list[Book])
import_books("1")  # type: ignore[arg-type]


async def await_function() -> None:
    assert_type(await aimport_books(1), int)


def payload(instance: Book, **kwargs: Any) -> dict[str, Any] | None:
    return {"title": instance.title}


async def apayload(number: int, **kwargs: Any) -> dict[str, Any]:
    return {"number": number}


@task_receiver([post_save, pre_save], sender=Book, payload=payload, when="commit")
@task()
def reindex(title: str) -> int:
    return len(title)


# The decorator keeps the type of the task.
assert_type(reindex.enqueue(title="t").return_value, int)


def use_tasks() -> None:
    connect_task(post_save, reindex, "shop.Book", payload=payload, raw=True)
    connect_task(order_placed, reindex, payload=apayload, dispatch_uid=1)
    assert_type(disconnect_task(post_save, reindex, sender=Book), bool)
    order_placed.connect(on_commit(note, robust=True))
    connect_task(post_save, note, payload=payload)  # type: ignore[arg-type]
    connect_task(post_save, reindex)  # type: ignore[call-arg]
    connect_task(post_save, reindex, payload=payload, when="soon")  # type: ignore[arg-type]
    connect_task(post_save, reindex, payload=lambda **kwargs: 1)  # type: ignore[arg-type]
