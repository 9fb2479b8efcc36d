"""What the tests of the system share: scenarios that are run twice and compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from .recording import Record, Seen

DATABASES = ["default", "other"]


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
        yield
        for alias in DATABASES:
            transaction.set_rollback(True, alias)


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
        # The names of savepoints are counted on from run to run.
        queries[alias] = [re.sub(r'"s\d+_x\d+"', "savepoint", q["sql"]) for q in log]


@pytest.fixture
def new_database(
    tmp_path: Path, django_db_blocker: Any
) -> Callable[[], AbstractContextManager[Any]]:
    """What makes an empty database in a file, called "scratch" while in a block."""
    numbers = count()

    @contextmanager
    def create() -> Iterator[Any]:
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": tmp_path / f"{next(numbers)}.sqlite3",
            "OPTIONS": {"init_command": "PRAGMA synchronous = OFF"},
        }
        configured = connections.configure_settings(
            {"default": {}, "scratch": database}
        )
        connections.settings["scratch"] = configured["scratch"]
        with django_db_blocker.unblock():
            try:
                yield connections["scratch"]
            finally:
                connections["scratch"].close()
                del connections["scratch"]
                del connections.settings["scratch"]

    return create
