"""Test the reports of receivers that died while the apps were loaded."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

APP = """
import functools, gc, weakref
from django.apps import AppConfig
from django.db.models.signals import post_delete, post_init, post_save, pre_save
from django.dispatch import Signal, receiver

from altdispatch import is_installed
from altdispatch.tasks import on_commit

ordered = Signal()
paid = Signal(use_caching=True)
emptied = Signal()
lived = Signal()

def index(client, **kwargs): pass

def held(**kwargs): pass

class Search:
    def __call__(self, **kwargs): pass
    def update(self, **kwargs): pass

kept = Search()

def connect_for(signal, function):
    signal.connect(function)  # line G

class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        def local(**kwargs): pass
        ordered.connect(lambda **kwargs: None)  # line A
        post_save.connect(functools.partial(index, "client"))  # line B
        paid.connect(local, sender=Search)  # line C
        pre_save.connect(Search().update)  # line D
        post_init.connect(Search())  # line E
        @receiver([post_delete, paid], sender="shop.Book")  # line F
        def decorated(**kwargs): pass
        connect_for(paid, lambda **kwargs: 1)
        paid.connect(on_commit(local))  # line H

        # None of the following receivers is lost.
        ordered.connect(held)
        ordered.connect(kept)
        ordered.connect(kept.update)
        ordered.connect(lambda **kwargs: 1, weak=False)
        def let_go(**kwargs): pass
        emptied.connect(let_go)
        emptied.disconnect(let_go)
        def muted(**kwargs): pass
        emptied.connect(muted)
        emptied.receivers = []
        self.later = lambda **kwargs: None
        lived.connect(self.later)
        # connect() drops dead receivers.
        for signal in (ordered, paid):
            signal.connect(held)
"""
MODELS = """
from django.db import models
from django.db.models.signals import m2m_changed

m2m_changed.connect(lambda **kwargs: None)

class Book(models.Model):
    pass
"""
START = """
import gc, sys
sys.path.insert(0, {folder!r})
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS={apps!r}, DEFAULT_AUTO_FIELD="django.db.models.AutoField"
)
django.setup()
gc.collect()
from django.core.management import call_command
from altdispatch.lost import find_lost
from altdispatch import dispatcher
from shop import apps as shop
"""


@pytest.fixture
def run_project(
    run_python: Callable[..., str], implementation: str, tmp_path: Path
) -> Callable[..., str]:
    """Return a function that runs a program in a project with one app."""
    app = tmp_path / "shop"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "apps.py").write_text(APP)
    (app / "models.py").write_text(MODELS)

    def run(program: str, apps: tuple[str, ...] = ("altdispatch", "shop")) -> str:
        start = START.format(folder=str(tmp_path), apps=list(apps))
        return run_python(start + textwrap.dedent(program))

    return run


def line(mark: str) -> int:
    (number,) = (
        number
        for number, text in enumerate(APP.splitlines(), 1)
        if text.endswith(f"# line {mark}")
    )
    return number


LOCAL = "ShopConfig.ready.<locals>."


def expected() -> list[tuple[str, str, str, int]]:
    return sorted(
        [
            ("shop.apps.ordered", f"{LOCAL}<lambda>", "a lambda", line("A")),
            ("django.db.models.signals.post_save", "index", "a partial", line("B")),
            ("shop.apps.paid", f"{LOCAL}local", "a local function", line("C")),
            (
                "django.db.models.signals.pre_save",
                "Search.update",
                "a bound method",
                line("D"),
            ),
            (
                "django.db.models.signals.post_init",
                "shop.apps.Search",
                "an object",
                line("E"),
            ),
            (
                "django.db.models.signals.post_delete",
                f"{LOCAL}decorated",
                "a local function",
                line("F"),
            ),
            ("shop.apps.paid", f"{LOCAL}decorated", "a local function", line("F")),
            ("shop.apps.paid", f"{LOCAL}<lambda>", "a lambda", line("G")),
            ("shop.apps.paid", f"{LOCAL}local", "a local function", line("H")),
        ]
    )


def as_rows(output: str) -> list[tuple[str, str, str, int]]:
    rows = json.loads(output)
    assert {Path(row["file"]).name for row in rows} == {"apps.py"}
    return sorted(
        (row["signal"], row["receiver"], row["kind"], row["line"]) for row in rows
    )


def test_lost_receivers(run_project: Callable[..., str]) -> None:
    output = run_project('call_command("altdispatch", "signals", "--lost", "--json")\n')
    rows = json.loads(output)
    assert None in [row["receiver"] for row in rows]
    known = [row for row in rows if row["receiver"]]
    assert as_rows(json.dumps(known)) == expected()


def test_receivers_lost_before_the_swap(run_project: Callable[..., str]) -> None:
    """The signal is reported, but not the receiver."""
    output = run_project('call_command("altdispatch", "signals", "--lost")\n')
    assert (
        "django.db.models.signals.m2m_changed\n"
        "  a receiver that was connected before the swap\n"
    ) in output
    assert f"\n  {LOCAL}local, a local function, connected at " in output
    assert f"apps.py:{line('C')}\n" in output
    output = run_project(
        """
        from django.db.models.signals import m2m_changed
        m2m_changed.connect(shop.held)  # connect() drops dead receivers.
        print([lost.signal for lost in find_lost() if lost.receiver is None])
        """
    )
    assert output == "['django.db.models.signals.m2m_changed']\n"


def test_check(run_project: Callable[..., str]) -> None:
    output = run_project(
        """
        from django.core.checks import run_checks
        for message in run_checks():
            if message.id == "altdispatch.W005":
                print(message)
        """
    )
    assert output.count("(altdispatch.W005)") == len(expected())
    assert (
        f"?: (altdispatch.W005) shop.apps.paid lost the receiver {LOCAL}local (a local "
        "function): it was connected weakly at "
    ) in output
    assert f"apps.py:{line('C')} and died because nothing else referred to" in output
    assert "weak=False" in output


@pytest.mark.parametrize("event", ["held_is_connected", "nothing"])
def test_receivers_that_a_program_drops_later_are_not_lost(
    run_project: Callable[..., str], event: str
) -> None:
    output = run_project(
        f"""
        event = {event!r}
        if event == "held_is_connected":
            shop.Signal().connect(shop.held)
            assert dispatcher.watcher is None
        else:
            find_lost()
        for signal in (shop.ordered, shop.lived, shop.emptied):
            signal.connect(lambda **kwargs: None)
            signal.connect(shop.Search().update)
        from django.apps import apps
        del apps.get_app_config("shop").later
        gc.collect()
        for signal in (shop.ordered, shop.lived, shop.emptied):
            signal.connect(shop.held)
        from altdispatch import lost
        assert not lost._notes
        from dataclasses import asdict
        import json
        print(json.dumps([asdict(one) for one in find_lost() if one.receiver]))
        """
    )
    assert as_rows(output) == expected()


def test_code_without_lines(run_project: Callable[..., str]) -> None:
    output = run_project(
        """
        from django.apps import apps
        def connect(): shop.emptied.connect(lambda **kwargs: None)
        connect.__code__ = connect.__code__.replace(co_linetable=b"")
        apps.ready = False
        connect()
        gc.collect()
        apps.ready = True
        found = [lost for lost in find_lost() if lost.signal == "shop.apps.emptied"]
        first = connect.__code__.co_firstlineno
        print([(lost.kind, lost.line - first) for lost in found])
        """
    )
    assert output == "[('a lambda', 0)]\n"


def test_earlier_apps_are_not_watched(
    run_project: Callable[..., str],
) -> None:
    output = run_project(
        "print({lost.receiver for lost in find_lost()})\n", ("shop", "altdispatch")
    )
    assert output == "{None}\n"


def test_notes_keep_nothing_alive(run_project: Callable[..., str]) -> None:
    """The notes keep neither receivers nor signals alive, nor add weak references."""
    program = """
        import weakref
        from django.apps import apps
        if shop.is_installed():
            from altdispatch import lost
            dispatcher.watcher = lost
        apps.ready = False
        class Data: pass
        seen = []
        def make():
            data, signal = Data(), shop.Signal()
            def local(**kwargs): return data
            partial = shop.functools.partial(local, data)
            search = shop.Search()
            for receiver in (local, partial, search, search.update, shop.held):
                signal.connect(receiver, sender=Data)
            counted = local, partial, search, shop.held
            seen.extend(map(weakref.getweakrefcount, counted))
            return [weakref.ref(each) for each in (data, signal, search, partial)]
        references = make()
        gc.collect()
        if django.VERSION < (6, 1):
            # Finalizers add references, and keep the signal: see the differences.
            del seen[:], references[1]
        print(seen, [reference() for reference in references])
        apps.ready = True
    """
    stock = run_project(program, ("shop",))
    assert "None, None" in stock
    assert run_project(program) == stock
