"""Kill web processes and workers at random, and count the tasks: ``make delivery``.

    python -m tests.delivery                              all of it
    python -m tests.delivery sqlite postgresql            some
    python -m tests.delivery --orders 400 --kills 10 sqlite

``sqlite``, ``postgresql``
    Tasks are stored in the transaction, with django-tasks-db. Four processes write
    orders, of which every tenth is rolled back, while workers run the tasks. All are
    killed at random. Each committed order must have exactly one task, and no other
    order may have a task.
``losses``
    Count the tasks lost with ``"commit"`` and ``"now"``, with django-tasks-db, RQ and
    Celery. Only web processes are killed, and the queue is counted afterwards.
``workers``
    Count what each engine does with a task whose worker is killed.

A run with 5,000 orders and 100 kills, the default, writes its tables to docs/results/.
The servers are temporary, and run in a temporary folder. Exit status: 0 if nothing
failed.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import django

import altdispatch

from ..postgresql import serve

ROOT = Path(__file__).resolve().parents[2]
WRITERS = 4
WORKERS = 2
ENGINES = {
    "db": ["django-tasks-db"],
    "rq": ["django-tasks-rq", "rq"],
    "celery": ["django-tasks-fennel", "celery"],
}
CELERY = ["celery", "-A", "django_tasks_fennel.app"]
#: Commands that start each engine's worker, and that run the remaining tasks.
WORK = {
    "db": ["django", "db_worker", "--interval=0.05", "--no-startup-delay"],
    "rq": ["django", "rqworker", "default", "--job-class=django_tasks_rq.Job"],
    "celery": [*CELERY, "worker", "--pool=solo", "--loglevel=ERROR"],
}
DRAIN = {"db": [*WORK["db"], "--batch"], "rq": [*WORK["rq"], "--burst"]}
TIME_LIMIT = 600


class Failed(Exception):
    """A guarantee was broken, or a process ended without being killed."""


@dataclass
class Project:
    """The project, with an engine and a database, in its own folder."""

    folder: Path
    engine: str
    when: str
    database: str = "sqlite3"
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {
            **os.environ,
            **self.variables,
            "DJANGO_SETTINGS_MODULE": "tests.delivery.settings",
            "DELIVERY_DATABASE": self.database,
            "DELIVERY_ENGINE": self.engine,
            "DELIVERY_FOLDER": str(self.folder),
            "DELIVERY_WHEN": self.when,
        }

    def start(self, *command: str) -> "Process":
        return Process(self, command)

    def run(self, *command: str) -> str:
        process = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIME_LIMIT,
            check=True,
        )
        return process.stdout

    def query(self, statement: str) -> list[Any]:
        """Return the first column of the result of a query."""
        if self.database == "sqlite3":
            database = sqlite3.connect(self.folder / "db.sqlite3", timeout=120)
        else:
            import psycopg

            keys = {"host": "PGHOST", "user": "PGUSER"}
            where = {key: self.variables[name] for key, name in keys.items()}
            database = psycopg.connect(dbname="postgres", **where)
        with contextlib.closing(database):
            return [row[0] for row in database.execute(statement).fetchall()]

    def count(self, table: str) -> int:
        (number,) = self.query(f"SELECT COUNT(*) FROM delivery_{table}")
        return number

    def numbers(self, table: str) -> Counter[int]:
        return Counter(self.query(f"SELECT number FROM delivery_{table}"))

    def queued(self) -> list[tuple[int, str]]:
        return json.loads(self.run("tests.delivery.queued"))


class Process:
    """A process of the project that can be killed and started again."""

    def __init__(self, project: Project, command: Sequence[str]) -> None:
        self.project = project
        self.command = command
        self.log = project.folder / "log"
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                cwd=ROOT,
                env=self.project.environment,
                stdout=log,
                stderr=log,
                # RQ's workers have child processes.
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        ready = self.project.folder / f"ready-{self.process.pid}"
        return not self.has_ended() and ready.exists()

    def has_ended(self) -> bool:
        if self.process.poll():
            raise Failed(f"{self.command} failed:\n{self.log.read_text()[-3000:]}")
        return self.process.returncode is not None

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Terminate the process as an operator does."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def processes(project: Project, *commands: Sequence[str]) -> Iterator[list[Process]]:
    started: list[Process] = []
    try:
        started += (Process(project, command) for command in commands)
        yield started
    finally:
        for process in started:
            process.stop()


def writers(orders: int) -> list[list[str]]:
    """Return the commands that together write all orders."""
    share = orders // WRITERS
    ranges = [(one * share + 1, (one + 1) * share) for one in range(WRITERS)]
    return [["tests.delivery.write", *map(str, each)] for each in ranges]


def kill_at_random(
    victims: list[Process],
    kills: int,
    progress: Callable[[], float],
    chance: random.Random,
) -> Counter[str]:
    """Kill while ``progress()`` goes from 0 to 1; count the kills of each command."""
    killed: Counter[str] = Counter()
    started = time.monotonic()
    for kill in range(kills):
        # Spread the kills over the work, whatever the machine's speed.
        while not find_ready(victims) or progress() < 0.9 * kill / kills:
            if time.monotonic() - started > TIME_LIMIT:
                raise Failed(f"{kill} kills of {kills} took more than {TIME_LIMIT} s")
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.01))
        if ready := find_ready(victims):
            victim = chance.choice(ready)
            victim.kill()
            killed[victim.command[0]] += 1
            victim.start()
    return killed


def find_ready(processes: list[Process]) -> list[Process]:
    return [process for process in processes if process.is_ready()]


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[None]:
    """Run a server for the block, without saving data to disk."""
    found = shutil.which("redis-server")
    if found is None:
        raise Failed("Redis is not installed: install Debian's redis-server.")
    socket = folder / "redis.sock"
    command = [found, "--port", "0", "--unixsocket", str(socket), "--save", ""]
    with (folder / "redis.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log)
    try:
        while not socket.exists():
            if server.poll() is not None:
                raise Failed((folder / "redis.log").read_text())
            time.sleep(0.01)
        yield
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def new_project(engine: str, when: str, database: str = "sqlite3") -> Iterator[Project]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variables = {}
        if database == "postgresql":
            (folder / "server").mkdir()
            # The server runs under another account.
            folder.chmod(0o755)
            variables = stack.enter_context(serve(folder / "server"))
        if engine != "db":
            stack.enter_context(redis_server(folder))
        project = Project(folder, engine, when, database, variables)
        project.run(
            "django", "migrate", "--run-syncdb", "--skip-checks", "--verbosity=0"
        )
        yield project


@dataclass
class Counts:
    """The number of orders, and of those whose tasks are wrong."""

    committed: int
    without: int
    doubled: int
    rolled_back: int

    @classmethod
    def of(cls, project: Project, tasks: Counter[int]) -> "Counts":
        orders = project.numbers("order")
        return cls(
            committed=len(orders),
            without=len(orders.keys() - tasks.keys()),
            doubled=sum(count > 1 for count in tasks.values()),
            rolled_back=len(tasks.keys() - orders.keys()),
        )


def check_transaction(
    database: str, orders: int, kills: int, chance: random.Random
) -> list[str]:
    """Return the row of the table; raise Failed unless each order has one task."""
    with new_project("db", "transaction", database) as project:
        commands = [*writers(orders), *[WORK["db"]] * WORKERS]
        with processes(project, *commands) as victims:
            writing = victims[:WRITERS]
            killed = kill_at_random(
                victims, kills, lambda: project.count("order") / (0.9 * orders), chance
            )
            wait_for(lambda: all(writer.has_ended() for writer in writing))
        project.run(*DRAIN["db"])
        queued = project.queued()
        tasks = Counter(number for number, _ in queued)
        counts = Counts.of(project, tasks)
        expected = orders - orders // 10
        if counts != Counts(expected, 0, 0, 0):
            raise Failed(f"{database}: {counts} of {expected} orders")
        done = project.numbers("done")
        statuses = Counter(status for _, status in queued)
    return [
        database,
        *(str(killed[command]) for command in ("tests.delivery.write", "django")),
        *map(str, (counts.committed, counts.without, counts.rolled_back)),
        str(counts.doubled),
        describe(statuses),
        str(sum(count > 1 for count in done.values())),
    ]


def find_losses(
    engine: str, when: str, orders: int, kills: int, chance: random.Random
) -> list[str]:
    """Return the row of the table about killed web processes."""
    with new_project(engine, when) as project:
        with processes(project, *writers(orders)) as victims:
            kill_at_random(
                victims, kills, lambda: project.count("order") / (0.9 * orders), chance
            )
            wait_for(lambda: all(writer.has_ended() for writer in victims))
        tasks = Counter(number for number, _ in project.queued())
        counts = Counts.of(project, tasks)
    return [
        ", ".join(ENGINES[engine]),
        f'``"{when}"``',
        str(kills),
        str(counts.committed),
        str(counts.without),
        f"{counts.without / counts.committed:.2%}",
        str(counts.rolled_back),
        str(counts.doubled),
    ]


def find_fate_of_tasks(
    engine: str, orders: int, kills: int, chance: random.Random
) -> list[str]:
    """Return the row of the table about killed workers."""
    with new_project(engine, "commit") as project:
        with processes(project, *writers(orders)) as victims:
            wait_for(lambda: all(writer.has_ended() for writer in victims))
        committed = project.count("order")
        with processes(project, *[WORK[engine]] * WORKERS) as victims:
            kill_at_random(
                victims, kills, lambda: project.count("done") / committed, chance
            )
            if engine == "celery":
                wait_until_still(lambda: project.count("done"))
        if engine != "celery":
            project.run(*DRAIN[engine])
        done = project.numbers("done")
        statuses = Counter(status for _, status in project.queued())
    return [
        ", ".join(ENGINES[engine]),
        str(kills),
        str(committed),
        str(committed - len(done)),
        str(sum(count > 1 for count in done.values())),
        describe(statuses),
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > TIME_LIMIT:
            raise Failed(f"waited more than {TIME_LIMIT} s")
        time.sleep(0.05)


def wait_until_still(count: Callable[[], int]) -> None:
    """Wait until the count has not changed for ten seconds."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < 10:
        time.sleep(0.2)
        if (now := count()) != last:
            last, since = now, time.monotonic()


def describe(statuses: Counter[str]) -> str:
    texts = [f"{count} {status.lower()}" for status, count in sorted(statuses.items())]
    return ", ".join(texts) or "none kept"


TRANSACTION = [
    "Database",
    "Web processes killed",
    "Workers killed",
    "Orders committed",
    "Without a task",
    "Tasks of rolled-back orders",
    "Orders with two tasks",
    "Tasks at the end",
    "Run twice",
]
LOSSES = [
    "Engine",
    "``when``",
    "Web processes killed",
    "Orders committed",
    "Without a task",
    "Share without a task",
    "Tasks of rolled-back orders",
    "Orders with two tasks",
]
FATES = [
    "Engine",
    "Workers killed",
    "Tasks",
    "Never run to the end",
    "Run twice",
    "What the engine has of them at the end",
]
CASES = [("db", "commit"), ("db", "now")] + [
    (engine, when) for engine in ("rq", "celery") for when in ("commit", "now")
]
#: The header and the number of rows of each table.
TABLES = {
    "transaction": (TRANSACTION, 2),
    "losses": (LOSSES, len(CASES)),
    "workers": (FATES, len(ENGINES)),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.delivery")
    names = ["sqlite", "postgresql", "losses", "workers"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--orders", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(names)}"
        )
    if options.orders % (10 * WRITERS):
        parser.error(f"--orders must be a multiple of {10 * WRITERS}")
    chosen = options.names or names
    print(f"seed: {options.seed}", flush=True)
    work = (options.orders, options.kills, random.Random(options.seed))
    rows: dict[str, list[list[str]]] = {table: [] for table in TABLES}

    def add(table: str, row: list[str]) -> None:
        rows[table].append(row)
        print(" | ".join(row), flush=True)

    # Exit normally on SIGTERM, so that the processes are stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        for name, database in {"sqlite": "sqlite3", "postgresql": "postgresql"}.items():
            if name in chosen:
                add("transaction", check_transaction(database, *work))
        if "losses" in chosen:
            for engine, when in CASES:
                add("losses", find_losses(engine, when, *work))
        if "workers" in chosen:
            for engine in ENGINES:
                add("workers", find_fate_of_tasks(engine, *work))
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    if (options.orders, options.kills) == (5000, 100):
        write_tables(rows)
    return 0


def write_tables(rows: dict[str, list[list[str]]]) -> None:
    """Write the tables with all of their rows, for the documentation."""
    about = [
        f"- altdispatch {altdispatch.__version__}, Django {django.get_version()}, "
        f"Python {platform.python_version()}, {date.today()}",
        "- "
        + ", ".join(
            f"{name} {version(name)}" for names in ENGINES.values() for name in names
        ),
        "",
    ]
    for name, (head, length) in TABLES.items():
        if len(rows[name]) < length:
            continue
        lines = [*about, ".. list-table::", "   :header-rows: 1", ""]
        for row in [head, *rows[name]]:
            bullets = ["   * -", *["     -"] * (len(row) - 1)]
            lines += [
                f"{bullet} {cell}" for bullet, cell in zip(bullets, row, strict=True)
            ]
        file = ROOT / "docs" / "results" / f"delivery-{name}.rst"
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")
        print(f"the table: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
