"""Run what uses a database on PostgreSQL: ``make postgresql``.

    python tests/postgresql.py [system] [django]

``system``
    The tests of the system that use a database, those of ``test_postgresql.py`` among
    them. None of them may be skipped.
``django``
    Django's own tests of what sends signals, stock and swapped: ``django_suite.py``.

Without arguments, both. The server is one of our own, in a temporary folder and on a
socket there, and is gone at the end. Exit status: 0 if all is as it has to be.
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
# Where Debian has the server's programs, which aren't on PATH there.
DEBIAN = "/usr/lib/postgresql/15/bin"
# Nothing in it has to outlive the machine.
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
# Of what sends signals or receives them, and has to do with a database.
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
    """Run what the command line asks for; return the exit status."""
    unknown = set(arguments) - set(CHECKS)
    if unknown:
        sys.exit(f"there is no {', '.join(sorted(unknown))}: {', '.join(CHECKS)}")
    for ending in (signal.SIGHUP, signal.SIGTERM):
        # So that the server is stopped then, too.
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
    """Run a server in an empty folder; give the environment in which it is found."""
    found = shutil.which("pg_ctl", path=f"{DEBIAN}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        sys.exit("There is no PostgreSQL here: install Debian's postgresql-15.")
    data, log = folder / "data", folder / "log"
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        # It refuses to run as root.
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
    """Run the tests of the system; return whether they all passed."""
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
    """Run Django's tests on both sides; return whether they agree."""
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
