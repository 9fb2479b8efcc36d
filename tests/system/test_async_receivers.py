"""Asynchronous receivers of the ORM's signals, and the database they get to."""

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
    """Ends a transaction."""


def close_connection():
    """Close the connection of where this is called.

    Django's own ``close()`` leaves that of a database in memory open.
    """
    connection.connection.close()
    connection.connection = None


def test_the_transaction_of_the_sender(assert_same_swapped):
    """What a receiver has done in synchronous code is done in it."""

    def scenario():
        notes = []
        home = threading.current_thread()
        held = connection._wrapper if hasattr(connection, "_wrapper") else connection

        def look(instance):
            Tag.objects.create(name=f"by {instance.name}")
            return (
                threading.current_thread() is home,
                connection.in_atomic_block,
                connection.connection is held.connection,
                sorted(Tag.objects.values_list("name", flat=True)),
            )

        async def receiver(instance, **kwargs):
            if not instance.name.startswith("by"):
                notes.append(await sync_to_async(look)(instance))
                await asyncio.sleep(0.001)
                notes.append(await sync_to_async(look)(instance))

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


def test_the_orm_is_not_for_asynchronous_code(assert_same_swapped):
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

    refused, again, count = assert_same_swapped(scenario)
    assert refused == again
    assert count == 1


def test_an_unsafe_orm(assert_same_swapped, monkeypatch):
    """Where it's allowed, each send has a connection of its own."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    def scenario():
        notes = []
        kept = []

        async def receiver(**kwargs):
            kept.append(connection.connection)
            notes.append(connection.connection is None)
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                notes.append(cursor.fetchone())
            kept.append(connection.connection)
            close_connection()

        post_save.connect(receiver, sender=Tag)
        try:
            post_save.send(Tag)
            post_save.send(Tag)
        finally:
            post_save.disconnect(receiver, sender=Tag)
        return notes, len({id(one) for one in kept if one is not None})

    notes, _ = assert_same_swapped(scenario)
    assert notes == [True, (1,)] * 2


def test_asynchronous_orm(assert_same_swapped):
    """Synchronous receivers run where its queries do."""

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

            # Up to 6.0 the two kinds run at the same time.
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
