"""What the documentation has its reader type works, and gives what it shows."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import shlex
import subprocess
import sys
import sysconfig
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import Any

import django
import pytest
from django.db.models.signals import post_save, pre_save
from django.dispatch import Signal

import altdispatch
from altdispatch import implementations, monitoring

from .conftest import ROOT
from .system.shop.models import Product

DOCS = ROOT / "docs"
# Indented where it is part of a list, and in Markdown, where it is between fences.
BLOCKS = {
    ".rst": re.compile(
        r"^( *)\.\. (?:code-block:: (?:console|python)|parsed-literal::)\n\n"
        r"(?P<code>(?:\1   .*\n|\n)+)",
        re.MULTILINE,
    ),
    ".md": re.compile(r"^ *```(?:console|python)\n(?P<code>.*?)^ *```", re.M | re.S),
}
# What is another with each reader: releases, what is compiled, how long it takes.
READERS_OWN = re.compile(
    r"\d+\.\d+(\.\d+)*( \(known\))?|c \(the extension is there\)|dispatched in c"
    r"|[\d.]+ (ms|µs)|[\d.]+%"
)
SETTINGS = "mysite/settings.py"
# It passes where the dispatcher is swapped before tests are imported.
TESTS = """
import unittest
import altdispatch

swapped_at_import = altdispatch.is_installed()

class Tests(unittest.TestCase):
    def test_swapped(self):
        self.assertTrue(swapped_at_import)
"""
RUNNER = """
import os, sys, django
from django.test.runner import DiscoverRunner

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
if __name__ == "__main__":
    django.setup()
    option, number = sys.argv[1:]
    assert option == "--parallel"
    sys.exit(DiscoverRunner(parallel=int(number)).run_tests(["tests"]))
"""
FILL = """
from catalogue.models import Book, Shelf
for number in range(30):
    shelf = Shelf.objects.create(name=str(number))
    Book.objects.create(title=f"Book {number}", shelf=shelf)
"""
# A page that says whether the process that serves it is swapped.
URLS = """
import altdispatch
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse(altdispatch.is_installed()))]
"""


def blocks(page: str) -> list[str]:
    """Return the code of a page, block by block."""
    path = DOCS / page
    found = BLOCKS[path.suffix].finditer(path.read_text(encoding="utf-8"))
    return [textwrap.dedent(block["code"]) for block in found]


def is_same(shown: str, written: str) -> bool:
    """Return whether it's the same but for spaces and what is the reader's own."""
    pattern = READERS_OWN.sub("...", shown)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(pattern, written, options)


class Reader:
    """Types what is shown after a ``$``, and compares what comes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "80",
        }
        del self.environment["DJANGO_SETTINGS_MODULE"]

    def type(self, console: str) -> list[str]:
        """Do what a block shows; assert that it gives that; return what it gives."""
        answers = []
        for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            if command.startswith("cd "):
                self.folder /= command.removeprefix("cd ")
            else:
                answers.append(self.run(command))
                self.compare(shown, answers[-1])
        return answers

    def run(self, command: str) -> str:
        """Run a command; return what it writes, also where it fails."""
        return subprocess.run(
            shlex.split(command),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        ).stdout

    def compare(self, shown: str, written: str) -> None:
        if shown.strip():
            assert is_same(shown, written), f"{written}\nis not\n{shown}"

    def write(self, path: str, code: str) -> None:
        (self.folder / path).write_text(code, encoding="utf-8")

    def append(self, path: str, code: str) -> None:
        with (self.folder / path).open("a", encoding="utf-8") as file:
            file.write(code)

    def add_apps(self, path: str, code: str) -> None:
        """Add to the apps of settings; the dots stand for those that are there."""
        self.append(path, code.replace("...", "*INSTALLED_APPS"))


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A reader in a new folder."""
    return Reader(tmp_path)


@pytest.fixture
def project(reader: Reader) -> Reader:
    """A reader with a project that doesn't know of altdispatch."""
    reader.type("$ django-admin startproject mysite .")
    return reader


def test_tutorial(reader):
    (
        environment,
        project,
        app,
        with_app,
        first_account,
        with_altdispatch,
        status,
        second_account,
        without,
    ) = blocks("tutorial/first-steps.rst")
    # The environment of the tests is like this one.
    assert "pip install path/to/altdispatch" in environment
    settings = "firststeps/settings.py"
    reader.type(project)
    before = (reader.folder / settings).read_text()
    reader.write("greeter/apps.py", app)
    reader.add_apps(settings, with_app)
    reader.type(first_account)
    reader.write(settings, before)
    reader.add_apps(settings, with_altdispatch)
    reader.type(status)
    reader.type(second_account)
    reader.write(settings, before)
    reader.add_apps(settings, with_app)
    reader.type(without)


def test_work_that_must_happen(reader):
    (
        environment,
        project,
        models,
        tasks,
        app,
        settings,
        migrate,
        buy,
        purchases,
        work,
        on_commit,
        loss,
    ) = blocks("tutorial/work-that-must-happen.rst")
    assert "pip install path/to/altdispatch django-tasks-db" in environment
    reader.type(project)
    reader.write("shop/models.py", models)
    if django.VERSION < (6, 0):
        tasks = tasks.replace("django.tasks", "django_tasks")
    reader.write("shop/tasks.py", tasks)
    reader.write("shop/apps.py", app)
    reader.append(SETTINGS, settings)
    reader.type(migrate)
    reader.write("buy.py", buy)
    assert reader.type(purchases)[:2] == ["", ""]
    reader.type(work)
    before, _ = app.rsplit("connect_task", 1)
    reader.write("shop/apps.py", before + textwrap.indent(on_commit, " " * 8).strip())
    *_, worked = reader.type(loss)
    assert worked == ""


@pytest.fixture
def shop(reader: Reader, tmp_path: Path) -> Reader:
    """A reader in the shop of the examples, which has thirty books."""
    reader.folder = ROOT / "examples" / "shop"
    reader.environment["SHOP_DATABASE"] = str(tmp_path / "shop.sqlite3")
    reader.run("python manage.py migrate")
    reader.run(f"python manage.py shell -c '{FILL}'")
    return reader


def type_loosely(reader: Reader, console: str) -> None:
    """Type a command; assert that each line shown is among those that it gives."""
    command, *shown = console.strip().removeprefix("$ ").splitlines()
    written = reader.run(command)
    # What costs about the same can come in another order.
    for line in shown:
        if "orth it here: " in line:
            # The verdict depends on the machine.
            assert "orth it here: " in written
        else:
            assert any(is_same(line, other) for other in written.splitlines()), (
                line,
                written,
            )


def test_readme(shop):
    installation, _, _, profile, signals, task, receipts = blocks("../README.md")
    assert "pip install ." in installation
    shop.type(signals)
    type_loosely(shop, profile)
    tutorial = blocks("tutorial/work-that-must-happen.rst")
    assert task in "".join(tutorial)
    *_, purchases, work = tutorial[:10]
    assert receipts.split() == [*purchases.split(), *work.split()]


def test_readme_installation(project):
    _, app, status, *_ = blocks("../README.md")
    project.add_apps(SETTINGS, app)
    project.type(status)


def test_front_page(project):
    (app,) = blocks("index.rst")
    project.add_apps(SETTINGS, app)
    assert "installed:      yes" in project.run("python manage.py altdispatch")


def test_adopt(project):
    installation, look, measure, own = blocks("howto/adopt.rst")
    assert "pip install path/to/altdispatch" in installation
    project.append(SETTINGS, 'INSTALLED_APPS += ["altdispatch"]\n')
    project.type(look)
    project.type(measure)
    names: dict[str, Any] = {}
    exec(own, names)
    assert type(names["order_placed"]) is altdispatch.Signal


def test_upgrade(project):
    installation, look = blocks("howto/upgrade.rst")
    assert "pip install --upgrade path/to/altdispatch" in installation
    project.append(SETTINGS, 'INSTALLED_APPS += ["altdispatch"]\n')
    _, status = project.type(look)
    assert "patched lookup: " in status


def test_run_your_suite(project):
    by_pytest, header, by_django, by_others = blocks("howto/run-your-suite.rst")
    project.write("tests.py", TESTS)
    project.write("runtests.py", RUNNER)
    options = "python_files = tests.py\nDJANGO_SETTINGS_MODULE = mysite.settings\n"
    project.write("pytest.ini", f"[pytest]\n{options}")
    (report,) = project.type(by_pytest)
    assert "1 passed" in report
    (line,) = re.findall("^altdispatch: .*\n", report, re.MULTILINE)
    project.compare(header.replace("|release|", altdispatch.__version__), line)
    reports = project.type(by_django) + project.type(by_others)
    assert len(reports) == 3
    for report in reports:
        # Django's own lines are on another stream: before these, or after.
        assert re.search(r"^Ran 1 test in .*\n\nOK$", report, re.MULTILINE), report


def test_child_processes(project):
    server, child = blocks("howto/child-processes.rst")
    project.write("mysite/urls.py", URLS)
    project.append(SETTINGS, "ROOT_URLCONF = 'mysite.urls'\n")
    assert page_of(project, server.strip().removeprefix("$ ")) == "True"
    project.write("script.py", "import altdispatch\nprint(altdispatch.is_installed())")
    project.write("parent.py", f"import subprocess, sys\n{child}")
    assert project.run("python parent.py") == "True\n"


def page_of(project: Reader, command: str) -> str:
    """Start a server, get its front page, and stop it."""
    with subprocess.Popen(
        # The system chooses a port that is free.
        [*command.split(), "127.0.0.1:0"],
        cwd=project.folder,
        env={**project.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            for line in server.stdout:
                if address := re.search(r"http://\S+/", line):
                    with urllib.request.urlopen(address[0], timeout=60) as answer:
                        return answer.read().decode()
        finally:
            server.terminate()
    raise AssertionError("The server did not start.")


def test_hybrid_receivers(project):
    *modules, settings, sell, sold, listed = blocks("howto/hybrid-receivers.rst")
    project.type("$ python manage.py startapp shop")
    for name, code in zip(["signals", "receivers", "apps"], modules, strict=True):
        project.write(f"shop/{name}.py", code)
    project.add_apps(SETTINGS, settings)
    project.write("sell.py", sell)
    project.type(sold)
    project.type(listed)


def test_deploy(project):
    status, again = blocks("howto/deploy.rst")
    project.append(SETTINGS, 'INSTALLED_APPS += ["altdispatch"]\n')
    (written,) = project.type(status)
    assert "installed:      yes" in written
    # Installed by the checks of a release.
    assert "path/to/altdispatch" in again


def test_agents(project):
    status, spans = blocks("howto/agents.rst")
    # The SDK imports eventlet, which is deprecated.
    project.environment["PYTHONWARNINGS"] = "ignore"
    project.append(SETTINGS, f"{spans}INSTALLED_APPS += ['altdispatch']\n")
    project.type(status)


def test_troubleshooting(project):
    (look,) = blocks("howto/troubleshooting.rst")
    project.append(SETTINGS, 'INSTALLED_APPS += ["altdispatch"]\n')
    _, checked = project.type(look)
    assert "altdispatch.W001" not in checked


def test_worth_it(project):
    (measure,) = blocks("explanation/worth-it.rst")
    assert blocks("readers/faster.rst") == [measure]
    (written,) = project.type(measure)
    assert "orth it here: " in written


@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="only CPython has free-threaded builds"
)
def test_compatibility(monkeypatch):
    """The page has the line that a free-threaded build prints."""
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: 1)
    reason = implementations._why_not_built()
    page = (DOCS / "explanation" / "compatibility.rst").read_text("utf-8")
    assert f"\n   implementation: python ({reason})\n" in page


def test_turn_off(monkeypatch):
    in_settings, in_process = blocks("howto/turn-off.rst")
    for value, expected in [("0", ["altdispatch"]), ("1", [])]:
        monkeypatch.setenv("WITHOUT_ALTDISPATCH", value)
        apps: list[str] = []
        exec(in_settings, {"os": os, "INSTALLED_APPS": apps})
        assert apps == expected
    altdispatch.install()
    names = {"altdispatch": altdispatch, "seen": []}
    exec(in_process.replace("...", "seen.append(altdispatch.is_installed())"), names)
    assert (names["seen"], altdispatch.uninstall()) == ([False], True)


class Order:
    pass


def test_helpers(project):
    imported, used, fixtures = blocks("reference/utils.rst")
    # The model of the tests that has such a name.
    used = used.replace("shop.Book", "shop.Product")
    order_placed, loads, mails = Signal(), [], []

    def note_load(**kwargs):
        loads.append(kwargs["sender"])

    def load_books():
        for sender in (Product, Order):
            post_save.send(sender)

    names = {
        "Order": Order,
        "load_books": load_books,
        "order_placed": order_placed,
        "place_order": lambda: order_placed.send(Order),
        "post_save": post_save,
        "pre_save": pre_save,
        "send_mail": lambda **kwargs: mails.append(kwargs["sender"]),
        "update_search_index": note_load,
    }
    post_save.connect(note_load)
    try:
        exec(imported + used, names)
    finally:
        post_save.disconnect(note_load)
    assert (loads, mails, order_placed.receivers) == ([Order], [Order], [])
    needed = """
        from types import SimpleNamespace as Customer
        from django.db.models.signals import post_save
        from django.dispatch import Signal

        order_placed = Signal()

        def place_order():
            order_placed.send(None)
    """
    project.write("test_order.py", textwrap.dedent(needed) + fixtures)
    written = project.run("pytest -p altdispatch.fixtures test_order.py")
    assert "1 passed" in written, written


SHOP_MODELS = """
from django.db import models

class Order(models.Model):
    pass
"""
SHOP_TASKS = """
try:
    from django.tasks import task
except ImportError:
    from django_tasks import task

@task()
def reindex(order_id, created):
    print("reindex", order_id, created)

@task()
def announce(order_id, created):
    print("announce", order_id, created)
"""
# What the samples of the page are about.
SHOP = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()

from django.core.cache import cache
from django.core.management import call_command
from django.db import transaction
from shop import tasks
from shop.models import Order
from shop.tasks import reindex

def task():
    # It has to be where the worker can import it from.
    return lambda function: tasks.announce
"""
SALE = """
with transaction.atomic():
    order = Order.objects.create()
    cache.set(f"order-{order.pk}", 1)
    order.save()
print("cached", cache.get(f"order-{order.pk}"))
call_command("db_worker", batch=True, interval=0, verbosity=0)
assert disconnect_task(post_save, reindex, sender=Order)
"""


def test_tasks(project):
    connected, decorated, databases, in_bulk, on_commit = blocks("reference/tasks.rst")
    project.run("python manage.py startapp shop")
    project.write("shop/models.py", SHOP_MODELS)
    project.write("shop/tasks.py", SHOP_TASKS)
    backend = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
    project.append(SETTINGS, 'INSTALLED_APPS += ["django_tasks_db", "shop"]\n')
    project.append(SETTINGS, f"TASKS = {backend}\n{databases}")
    project.run("python manage.py makemigrations shop")
    project.run("python manage.py migrate")
    code = (SHOP, connected, decorated, on_commit, in_bulk, SALE)
    project.write("sale.py", "\n".join(code))
    tasks = [f"reindex {number} True" for number in (1, 2, 3)]
    tasks += ["announce 3 True", "announce 3 False", "reindex 3 False"]
    cached, *written = project.run("python sale.py").splitlines()
    assert cached == "cached None"
    assert sorted(written) == sorted(tasks)


def test_command_line(shop):
    status, signals, profile = blocks("reference/command-line.rst")
    shop.type(status)
    shop.type(signals)
    type_loosely(shop, profile)


def test_find_slow_receivers(reader, tmp_path):
    profile, signals = blocks("howto/find-slow-receivers.rst")
    reader.folder = ROOT / "examples" / "shop"
    reader.environment["SHOP_DATABASE"] = str(tmp_path / "shop.sqlite3")
    reader.run("python manage.py migrate")
    reader.type(profile.replace("profile.html", str(tmp_path / "profile.html")))
    assert "audit.receivers.log" in (tmp_path / "profile.html").read_text("utf-8")
    (written,) = reader.type(signals)
    assert "django.db.models.signals.post_save" in written


def test_monitoring(capsys):
    counting, subscribing = blocks("reference/monitoring.rst")

    def receiver(**kwargs):
        time.sleep(0.1)

    signal = altdispatch.Signal()
    signal.connect(receiver)
    names = {}
    exec(subscribing.replace("...", ""), {"monitoring": monitoring}, names)
    # The example's loop is for what the dots stand for.
    signal.send(None)
    names["unsubscribe"]()
    name = f"{__name__}.test_monitoring.<locals>.receiver"
    assert capsys.readouterr().out.startswith(f"{name} ")
    exec(counting.replace("...", "signal.send(None)"), {"signal": signal})
    monitoring.disable()
    assert capsys.readouterr().out.startswith(f"{name} 2 0.2")


def test_contributing(reader):
    _, example, *_, digest, _ = blocks("../CONTRIBUTING.md")
    reader.write("test_example.py", example)
    root = shlex.quote(str(ROOT))
    options = f"--rootdir={root} -c {root}/setup.cfg -p tests.conftest"
    report = reader.run(f"pytest {options} test_example.py")
    assert re.search(r"= [12] passed in", report), report
    (known,) = reader.type(digest)
    assert known.strip() in altdispatch.swap._KNOWN


def test_no_page_is_forgotten():
    pages = [*DOCS.rglob("*.rst"), *ROOT.glob("*.md")]
    with_code = {os.path.relpath(page, DOCS) for page in pages if blocks(page)}
    source = Path(__file__).read_text(encoding="utf-8")
    tested = {page for page in with_code if f'blocks("{page}")' in source}
    # Making a release takes the rights to publish one.
    assert with_code - tested == {"contributing/release.rst"}


def test_links_between_files():
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^):#]+)\)", page.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{target} in {page}"


FIELDS = ["What", "Where seen", "Why", "How to avoid", "Test"]


def test_differences():
    """Each difference has all of its fields, and tests; each of these tests has one."""
    page = (DOCS / "explanation" / "differences.rst").read_text(encoding="utf-8")
    _, *entries = re.split(r"^~~~+\n", page, flags=re.MULTILINE)
    for entry in entries:
        assert re.findall(r"^:(.+?):", entry, re.MULTILINE) == FIELDS, entry
        assert re.search(r"^:Test:.*\*test_\w+\*", entry, re.MULTILINE), entry
    tests = {
        path.name: set(re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M))
        for path in Path(__file__).parent.rglob("test_*.py")
    }
    named = set(re.findall(r"\*(test_\w+)\*", page))
    assert tests["test_differences.py"] <= named <= set().union(*tests.values())


def test_pictures():
    """They name what is in the code."""
    sources = (ROOT / "altdispatch").glob("*.py")
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    for picture in ("send", "connect", "async-send"):
        drawn = (DOCS / "images" / f"{picture}.svg").read_text(encoding="utf-8")
        names = re.findall(r"(\w+)\(", drawn)
        assert len(names) > 3
        assert [name for name in names if name not in code] == []


def test_figures_are_of_the_newest_run():
    figures = runpy.run_path(str(DOCS / "figures.py"))
    assert figures["PLOT"].read_text(encoding="utf-8") == figures["draw"](), (
        "Run python docs/figures.py"
    )
    rows = figures["read"]()
    labels = {label: name for name, label in figures["label_rows"](rows).items()}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    head, shown = re.search(
        r"\| (.+) \| Times as fast.+\n.+\n((?:\|.+\n)+)", readme
    ).groups()
    assert head == "Python {}, Django {}, with the extension".format(
        *figures["releases"]()
    )
    for label, figure in re.findall(r"\| (.+) \| (.+) \|", shown):
        assert figure == figures["short"](rows[labels[label]]), label
    worst = rows[figures["find_worst"](rows)]
    assert f"| {figures['short'](worst)} |" in shown
