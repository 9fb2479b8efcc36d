"""Run the tests that use a database on PostgreSQL: ``make postgresql`` runs this.

    python tests/postgresql.py [system] [django]

``system``
    Run the tests in tests/system that use a database, ``test_postgresql.py`` among
    them. None may be skipped.
``django``
    Run Django's own tests of the parts that send signals, stock and swapped, with
    ``django_suite.py``.

Without arguments, run both. They start a temporary server, whose data and socket are in
a temporary folder. Exit status: 0 if all tests passed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import django

ROOT = Path(__file__).resolve().parent.parent
# Debian installs the server's programs here, outside of PATH.
DEBIAN = "/usr/lib/postgresql/15/bin"
# The data needn't survive a crash.
CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
autovacuum = off
fsync = off
full_page_writes = off
synchronous_commit = off
"""
TESTS = [
    "tests/system/test_async_receivers.py",
    "tests/system/test_auth.py",
    "tests/system/test_http_asgi.py",
    "tests/system/test_http_wsgi.py",
    "tests/system/test_m2m.py",
    "tests/system/test_migrate.py",
    "tests/system/test_orm_delete.py",
    "tests/system/test_orm_save.py",
    "tests/system/test_other_signals.py",
    "tests/system/test_postgresql.py",
    "tests/system/test_request_threads.py",
]
# Django's tests that send or receive signals and use a database.
LABELS = [
    "asgi",
    "async",
    "auth_tests.test_signals",
    "backends",
    "contenttypes_tests",
    "delete",
    "delete_regress",
    "dispatch",
    "handlers",
    "m2m_signals",
    "migrate_signals",
    "model_inheritance",
    "multiple_database",
    "postgres_tests",
    "proxy_models",
    "signals",
    "sites_tests",
    "test_utils",
    "transaction_hooks",
    "transactions",
    "update_only_fields",
    "wsgi",
]


def main(arguments: list[str]) -> int:
    """Run the checks named on the command line; return the exit status."""
    unknown = set(arguments) - set(CHECKS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(CHECKS)}")
    for ending in (signal.SIGHUP, signal.SIGTERM):
        # Exit normally on these signals, so that the server is stopped.
        signal.signal(ending, lambda number, frame: sys.exit(128 + number))
    failed = []
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as variables:
        for name in arguments or CHECKS:
            print(f"== {name}", flush=True)
            if not CHECKS[name](Path(folder), variables):
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return bool(failed)


@contextmanager
def serve(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server in an empty folder; return the variables to connect to it."""
    found = shutil.which("pg_ctl", path=f"{DEBIAN}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        sys.exit("PostgreSQL is not installed: install Debian's postgresql-15.")
    data, log = folder / "data", folder / "log"
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [Path(found).with_name(program), *arguments, "-D", data]
        with log.open("a") as output:
            status = subprocess.call(
                command, cwd=folder, stdout=output, stderr=output, **account
            )
        if status:
            sys.exit(f"{program} failed:\n{log.read_text()}")

    run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write(CONFIGURATION.format(folder=folder))
    others = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    try:
        run("pg_ctl", "start")
        yield {**others, "PGHOST": str(folder), "PGUSER": "postgres"}
    finally:
        run("pg_ctl", "stop", "-m", "immediate")


def check_system(folder: Path, variables: dict[str, str]) -> bool:
    """Run the tests in tests/system; return whether all passed without skips."""
    report = folder / "report.xml"
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "pytest", "-q"]
    status = subprocess.call(
        [*command, f"--junitxml={report}", *TESTS],
        cwd=ROOT,
        env={**variables, "ALTDISPATCH_DATABASE": "postgresql"},
    )
    skipped = ElementTree.parse(report).findall(".//skipped")
    for each in skipped:
        print("skipped:", each.get("message"))
    return status == 0 and not skipped


def check_django(folder: Path, variables: dict[str, str]) -> bool:
    """Run Django's tests on both sides; return whether the results are equal."""
    command = [sys.executable, "tests/django_suite.py", "--postgresql", "--django"]
    return not subprocess.call(
        [*command, django.get_version(), *LABELS], cwd=ROOT, env=variables
    )


CHECKS: dict[str, Callable[[Path, dict[str, str]], bool]] = {
    "system": check_system,
    "django": check_django,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
