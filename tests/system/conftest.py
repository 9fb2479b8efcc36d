"""What the tests of the system share: scenarios that are run twice and compared."""

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
from .recording import Record, Seen

DATABASES = ["default", "other"]
# Of the new databases.
numbers = count()


@pytest.fixture
def record() -> Record:
    """Where ``compare`` has its receivers write."""
    return Record()


@pytest.fixture
def compare(
    record: Record, assert_same_swapped: Callable[[Callable[[], Any]], Any]
) -> Callable[..., Seen]:
    """Run a scenario on stock Django and swapped; assert that it's the same.

    There are receivers for the signals in ``sent`` and ``unsent``, one connected
    before both runs, which is before the swap, and one in each run. The first get
    to each of them, the second to none, or the test fails. The record of one run
    is returned.

    ``receivers`` are options of ``Record.connected()``.
    """

    def run_both(
        scenario: Callable[[], Any],
        sent: Collection[str] = (),
        unsent: Collection[str] = (),
        **receivers: Any,
    ) -> Seen:
        signals = [*sent, *unsent]

        def run() -> Seen:
            record.clear()
            with record.connected("late", signals, **receivers):
                return record.see(scenario())

        with record.connected("early", signals, **receivers):
            seen = assert_same_swapped(run)
        assert isinstance(seen, Seen), f"the scenario failed: {seen}"
        both = {("early", False), ("late", False)}
        for signal in sent:
            assert {c.receiver for c in seen.calls if c.signal == signal} == both
        for signal in unsent:
            assert signal not in seen.signals()
        return seen

    return run_both


@pytest.fixture
def compare_rolled_back(compare: Callable[..., Seen]) -> Callable[..., Seen]:
    """Do what ``compare`` does with a scenario that leaves the databases unchanged.

    The queries of each database are compared too: the answer is that of the
    scenario and a dictionary of them.
    """

    def run_both(scenario: Callable[[], Any], *args: Any, **kwargs: Any) -> Seen:
        def run() -> Any:
            with rolled_back(), capture_queries() as queries:
                answer = scenario()
            return answer, queries

        return compare(run, *args, **kwargs)

    return run_both


@contextmanager
def rolled_back() -> Iterator[None]:
    """Undo in all databases what is done in the block."""
    with ExitStack() as stack:
        for alias in DATABASES:
            stack.enter_context(transaction.atomic(alias))
            reset_sequences(alias)
        yield
        for alias in DATABASES:
            transaction.set_rollback(True, alias)


def reset_sequences(alias: str) -> None:
    """Have rows numbered as if there had not been any others than are there.

    Where sequences do this, they aren't rolled back.
    """
    models = apps.get_models(include_auto_created=True)
    statements = connections[alias].ops.sequence_reset_sql(no_style(), models)
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def capture_queries() -> Iterator[dict[str, list[str]]]:
    """Give a dictionary that has, after the block, the SQL sent to each database."""
    queries: dict[str, list[str]] = {}
    with ExitStack() as stack:
        captured = {
            alias: stack.enter_context(CaptureQueriesContext(connections[alias]))
            for alias in DATABASES
        }
        yield queries
    for alias, log in captured.items():
        # The names of savepoints and cursors are counted on from run to run.
        name = r'"(s|_django_curs_)\d+_\w+"'
        queries[alias] = [re.sub(name, "name", query["sql"]) for query in log]


@pytest.fixture
def new_database(
    tmp_path: Path, django_db_blocker: Any
) -> Callable[..., AbstractContextManager[Any]]:
    """What makes an empty database, called "scratch" while in a block.

    It takes settings of the database.
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
    """Close and forget the connection that this thread has to it."""
    connections["scratch"].close()
    del connections["scratch"]


@contextmanager
def empty_sqlite_database(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the settings of a new file."""
    yield {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": folder / f"{next(numbers)}.sqlite3",
        "OPTIONS": {"init_command": "PRAGMA synchronous = OFF"},
    }


@contextmanager
def empty_postgresql_database(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the settings of a database that is dropped after the block.

    It can't be if it's still in use: no connection may be left open.
    """
    # Tests may be run in several processes.
    name = f"scratch_{os.getpid()}_{next(numbers)}"
    with postgresql_session("postgres") as session:
        session.execute(f"CREATE DATABASE {name}")
        try:
            yield {"ENGINE": "django.db.backends.postgresql", "NAME": name}
        finally:
            session.execute(f"DROP DATABASE {name}")


def postgresql_session(database: str) -> Any:
    """Return a connection to the server that Django knows nothing of."""
    # It's not there for runs on SQLite.
    import psycopg

    return psycopg.connect(dbname=database, autocommit=True)


EMPTY_DATABASES = {
    "sqlite3": empty_sqlite_database,
    "postgresql": empty_postgresql_database,
}
