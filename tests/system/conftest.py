"""Fixtures that run a scenario twice and compare, and that create databases."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management.color import no_style
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from ..settings import BACKEND
from .recording import Record, Recorded

DATABASES = ["default", "other"]
# Numbers the new databases.
numbers = count()


@pytest.fixture
def record() -> Record:
    """Return the record that the receivers of ``compare`` write to."""
    return Record()


@pytest.fixture
def compare(
    record: Record, assert_same_swapped: Callable[[Callable[[], Any]], Any]
) -> Callable[..., Recorded]:
    """Run a scenario on stock Django and swapped, and compare the records.

    Each signal in ``sent`` and ``unsent`` has two receivers: one connected before both
    runs, so before the swap, and one in each run. The test fails if a signal in
    ``sent`` isn't sent, or one in ``unsent`` is. The fixture returns the record of one
    run.

    ``receivers`` are options of ``Record.connected()``.
    """

    def run_both(
        scenario: Callable[[], Any],
        sent: Collection[str] = (),
        unsent: Collection[str] = (),
        **receivers: Any,
    ) -> Recorded:
        signals = [*sent, *unsent]

        def run() -> Recorded:
            record.clear()
            with record.connected("late", signals, **receivers):
                return record.finish(scenario())

        with record.connected("early", signals, **receivers):
            seen = assert_same_swapped(run)
        assert isinstance(seen, Recorded), f"the scenario failed: {seen}"
        both = {("early", False), ("late", False)}
        for signal in sent:
            assert {c.receiver for c in seen.calls if c.signal == signal} == both
        for signal in unsent:
            assert signal not in seen.signals()
        return seen

    return run_both


@pytest.fixture
def compare_rolled_back(compare: Callable[..., Recorded]) -> Callable[..., Recorded]:
    """Run ``compare`` with a scenario whose changes to the databases are rolled back.

    It compares the queries of each database too. The result is that of the scenario and
    a dictionary of queries.
    """

    def run_both(scenario: Callable[[], Any], *args: Any, **kwargs: Any) -> Recorded:
        def run() -> Any:
            with rolled_back(), capture_queries() as queries:
                result = scenario()
            return result, queries

        return compare(run, *args, **kwargs)

    return run_both


@contextmanager
def rolled_back() -> Iterator[None]:
    """Roll back all databases after the block."""
    with ExitStack() as stack:
        for alias in DATABASES:
            stack.enter_context(transaction.atomic(alias))
            reset_sequences(alias)
        yield
        for alias in DATABASES:
            transaction.set_rollback(True, alias)


def reset_sequences(alias: str) -> None:
    """Number new rows after those that exist.

    A rollback doesn't reset a sequence.
    """
    models = apps.get_models(include_auto_created=True)
    statements = connections[alias].ops.sequence_reset_sql(no_style(), models)
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def capture_queries() -> Iterator[dict[str, list[str]]]:
    """Return a dictionary that has the SQL of each database after the block."""
    queries: dict[str, list[str]] = {}
    with ExitStack() as stack:
        captured = {
            alias: stack.enter_context(CaptureQueriesContext(connections[alias]))
            for alias in DATABASES
        }
        yield queries
    for alias, log in captured.items():
        # The numbers of savepoints and cursors continue from run to run.
        name = r'"(s|_django_curs_)\d+_\w+"'
        queries[alias] = [re.sub(name, "name", query["sql"]) for query in log]


@pytest.fixture
def new_database(
    tmp_path: Path, django_db_blocker: Any
) -> Callable[..., AbstractContextManager[Any]]:
    """Return a context manager with an empty database, named "scratch".

    Its arguments are settings of the database.
    """

    @contextmanager
    def create(**settings: Any) -> Iterator[Any]:
        with EMPTY_DATABASES[BACKEND](tmp_path) as database:
            configured = connections.configure_settings(
                {"default": {}, "scratch": {**database, **settings}}
            )
            connections.settings["scratch"] = configured["scratch"]
            with django_db_blocker.unblock():
                try:
                    yield connections["scratch"]
                finally:
                    close_new_database()
                    del connections.settings["scratch"]

    return create


def close_new_database() -> None:
    """Close and forget this thread's connection to the new database."""
    connections["scratch"].close()
    del connections["scratch"]


@contextmanager
def empty_sqlite_database(folder: Path) -> Iterator[dict[str, Any]]:
    """Return the settings of a new file."""
    yield {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": folder / f"{next(numbers)}.sqlite3",
        "OPTIONS": {"init_command": "PRAGMA synchronous = OFF"},
    }


@contextmanager
def empty_postgresql_database(folder: Path) -> Iterator[dict[str, Any]]:
    """Return the settings of a database that is dropped after the block.

    PostgreSQL refuses to drop a database that has an open connection.
    """
    # Tests run in several processes.
    name = f"scratch_{os.getpid()}_{next(numbers)}"
    with postgresql_session("postgres") as session:
        session.execute(f"CREATE DATABASE {name}")
        try:
            yield {"ENGINE": "django.db.backends.postgresql", "NAME": name}
        finally:
            session.execute(f"DROP DATABASE {name}")


def postgresql_session(database: str) -> Any:
    """Return a connection to the server that Django doesn't manage."""
    # Runs on SQLite don't install psycopg.
    import psycopg

    return psycopg.connect(dbname=database, autocommit=True)


EMPTY_DATABASES = {
    "sqlite3": empty_sqlite_database,
    "postgresql": empty_postgresql_database,
}
