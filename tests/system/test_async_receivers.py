"""Asynchronous receivers of the ORM's signals, and the database that they use."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import request_finished, request_started
from django.db import connection, transaction
from django.db.models.signals import post_delete, post_save
from django.test import AsyncClient, Client

from .conftest import close_new_database
from .shop.models import Tag

pytestmark = pytest.mark.django_db(transaction=True)


class Undo(Exception):
    """Roll back a transaction."""


def close_connection():
    """Close the current connection.

    Django's own ``close()`` leaves the connection to an in-memory database open.
    """
    connection.connection.close()
    connection.connection = None


def test_transaction_of_the_sender(assert_same_swapped):
    """Synchronous code of a receiver runs in the sender's transaction."""

    def scenario():
        notes = []
        sender_thread = threading.current_thread()
        is_wrapped = hasattr(connection, "_wrapper")
        expected = connection._wrapper if is_wrapped else connection

        def create_tag(instance):
            Tag.objects.create(name=f"by {instance.name}")
            return (
                threading.current_thread() is sender_thread,
                connection.in_atomic_block,
                connection.connection is expected.connection,
                sorted(Tag.objects.values_list("name", flat=True)),
            )

        async def receiver(instance, **kwargs):
            if not instance.name.startswith("by"):
                notes.append(await sync_to_async(create_tag)(instance))
                await asyncio.sleep(0.001)
                notes.append(await sync_to_async(create_tag)(instance))

        post_save.connect(receiver, sender=Tag)
        try:
            with transaction.atomic():
                Tag.objects.create(name="first")
                raise Undo
        except Undo:
            notes.append(Tag.objects.count())
        finally:
            post_save.disconnect(receiver, sender=Tag)
        return notes

    first, second, left = assert_same_swapped(scenario)
    assert first == (True, True, True, ["by first", "first"])
    assert second == (True, True, True, ["by first", "by first", "first"])
    assert left == 0


def test_orm_raises_in_asynchronous_receivers(assert_same_swapped):
    def scenario():
        notes = []

        async def receiver(**kwargs):
            for _ in range(2):
                try:
                    Tag.objects.count()
                except SynchronousOnlyOperation as error:
                    notes.append(str(error))
                await asyncio.sleep(0)
            notes.append(await Tag.objects.acount())

        post_save.connect(receiver, sender=Tag)
        try:
            Tag.objects.create(name="first")
        finally:
            post_save.disconnect(receiver, sender=Tag)
        Tag.objects.all().delete()
        return notes

    first, second, count = assert_same_swapped(scenario)
    assert first == second
    assert count == 1


def test_orm_with_unsafe_calls_allowed(assert_same_swapped, monkeypatch):
    """Each send then uses a new connection."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    def scenario():
        notes = []
        used = []

        async def receiver(**kwargs):
            used.append(connection.connection)
            notes.append(connection.connection is None)
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                notes.append(cursor.fetchone())
            used.append(connection.connection)
            close_connection()

        post_save.connect(receiver, sender=Tag)
        try:
            post_save.send(Tag)
            post_save.send(Tag)
        finally:
            post_save.disconnect(receiver, sender=Tag)
        return notes, len({id(one) for one in used if one is not None})

    notes, _ = assert_same_swapped(scenario)
    assert notes == [True, (1,)] * 2


def test_asynchronous_orm(assert_same_swapped):
    """Synchronous receivers run in the thread of the ORM's queries."""

    def scenario():
        notes = []
        threads = []

        def synchronous(instance, **kwargs):
            threads.append(threading.get_ident())
            notes.append(Tag.objects.count())

        async def asynchronous(instance, **kwargs):
            notes.append(asyncio.current_task() is not None)
            threads.append(await sync_to_async(threading.get_ident)())
            notes.append(await Tag.objects.acount())

        async def main():
            threads.append(await sync_to_async(threading.get_ident)())
            tag = Tag(name="first")
            await tag.asave()
            await tag.adelete()
            await sync_to_async(close_connection)()

        for signal in (post_save, post_delete):
            for receiver in (synchronous, asynchronous):
                signal.connect(receiver, sender=Tag)
        try:
            asyncio.run(main())
        finally:
            for signal in (post_save, post_delete):
                for receiver in (synchronous, asynchronous):
                    signal.disconnect(receiver, sender=Tag)
        return notes, len(set(threads))

    assert assert_same_swapped(scenario) == ([1, True, 1, 0, True, 0], 1)


def test_requests_of_the_test_clients(assert_same_swapped, new_database):
    def scenario():
        with new_database():
            return visit()

    def visit():
        notes = []

        async def receiver(signal, **kwargs):
            notes.append((signal is request_started, await sync_to_async(int)()))

        def synchronous(signal, **kwargs):
            notes.append((signal is request_started, "synchronous"))

        for signal in (request_started, request_finished):
            signal.connect(receiver)
            signal.connect(synchronous)
        try:
            status = Client().get("/echo/").status_code

            async def get():
                try:
                    return (await AsyncClient().get("/async/echo/")).status_code
                finally:
                    await sync_to_async(close_new_database)()

            # Up to Django 6.0, both kinds of receivers run at the same time.
            return status, asyncio.run(get()), sorted(notes, key=repr)
        finally:
            for signal in (request_started, request_finished):
                signal.disconnect(receiver)
                signal.disconnect(synchronous)

    seen = assert_same_swapped(scenario)
    assert len(seen) == 3, seen
    status, async_status, notes = seen
    assert (status, async_status) == (200, 200)
    assert len(notes) == 8
