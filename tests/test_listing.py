"""``manage.py altdispatch signals``, and what it's made of."""

from __future__ import annotations

import functools
import gc
import json
import linecache
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User, update_last_login
from django.core.management import CommandError, call_command
from django.dispatch import Signal
from django.utils.functional import SimpleLazyObject

from altdispatch import naming
from altdispatch.listing import list_repeated, list_signals
from altdispatch.naming import dotted, name_patch, name_signals
from altdispatch.releases import WATCHES_SENDERS

from .conftest import frozen_heap

# Named in this module, and so found in it.
announced = Signal()
unheard = Signal(use_caching=True)


class Holder:
    signal = Signal()


class Sender:
    pass


def function(**kwargs):
    pass


async def coroutine_function(**kwargs):
    pass


class Receiver:
    def method(self, **kwargs):
        pass

    def __call__(self, **kwargs):
        pass


@functools.wraps(function)
def wrapper(**kwargs):
    return function(**kwargs)


def listed(name):
    (found,) = (signal for signal in list_signals() if signal.name == name)
    return found


parse_once = functools.cache(naming._imported)


@pytest.fixture(autouse=True)
def modules_are_parsed_once(monkeypatch):
    """Parse each module once, not in each test: together they take half a second."""
    monkeypatch.setattr(naming, "_imported", parse_once)


@pytest.fixture
def connect():
    """Connect to ``announced``, for the time of the test."""
    before = [*announced.receivers]
    yield announced.connect
    announced.receivers = before


NAME = f"{__name__}.announced"
HERE = __file__


def test_names():
    names = [signal.name for signal in list_signals()]
    # Where they are made, not where they were imported to.
    for name in (
        NAME,
        f"{__name__}.unheard",
        f"{__name__}.Holder.signal",
        "django.contrib.auth.signals.user_logged_in",
        "django.core.signals.request_started",
        "django.core.signals.setting_changed",
        "django.db.models.signals.post_save",
    ):
        assert names.count(name) == 1
    named = [name for name in names if name]
    assert named == sorted(named)


@pytest.fixture
def add_module(monkeypatch):
    """Make a module with these variables that is imported until the test ends."""
    # Each test has other modules of these names.
    monkeypatch.setattr(naming, "_imported", parse_once.__wrapped__)

    def add(name, source="", **variables):
        module = ModuleType(name)
        vars(module).update(variables)
        monkeypatch.setitem(sys.modules, name, module)
        # Where inspect looks for the source.
        module.__file__ = f"<{name}>"
        linecache.cache[module.__file__] = len(source), None, [source], module.__file__
        return module

    yield add
    linecache.clearcache()


def name_of(signal):
    return name_signals([signal])[id(signal)]


def test_signals_that_a_program_has_frozen():
    """Servers call ``gc.freeze()`` before they fork."""
    with frozen_heap():
        names = {one.name for one in list_signals()}
    assert {NAME, f"{__name__}.Holder.signal"} < names


def test_name_in_the_module_that_has_not_imported_it(add_module):
    signal = Signal()
    add_module("b.deep.made", "arrived = Signal()", arrived=signal)
    add_module("a", "from b.deep.made import arrived", arrived=signal)
    assert name_of(signal) == "b.deep.made.arrived"
    add_module("aa", "from b.deep.made import arrived as came", came=signal)
    assert name_of(signal) == "b.deep.made.arrived"


def test_name_in_the_outer_one_of_two_modules(add_module):
    signal = Signal()
    add_module("a.deep", arrived=signal)
    add_module("b", arrived=signal)
    assert name_of(signal) == "b.arrived"


def test_name_in_a_class_where_that_is_written(add_module):
    add_module("a", "", Holder=Holder)
    assert name_of(Holder.signal) == f"{__name__}.Holder.signal"


def test_naming_touches_nothing(add_module, monkeypatch):
    lazy = SimpleLazyObject(lambda: pytest.fail("it has been woken"))
    add_module("a", "", lazy=lazy)
    # Such things are put there in the place of modules.
    monkeypatch.setitem(sys.modules, "b", object())
    assert name_of(announced) == NAME


def test_signals_that_only_wait_for_the_garbage_collector():
    class Waiting(Signal):
        pass

    gc.disable()
    try:
        signal = Waiting()
        signal.itself = signal
        del signal
        assert not any("Waiting" in signal.type for signal in list_signals())
    finally:
        gc.enable()


def test_signal_without_a_name():
    class HiddenSignal(Signal):
        """Told apart from the signals that other tests have left."""

    hidden = [HiddenSignal()]
    listed = list_signals()
    assert listed[-1].name is None
    (one,) = (one for one in listed if one.type.endswith(".HiddenSignal"))
    assert one.name is None
    del hidden


@pytest.mark.parametrize(
    ("receiver", "name", "code"),
    [
        (function, "function", function),
        (coroutine_function, "coroutine_function", coroutine_function),
        (wrapper, "function", function),
        (functools.partial(function, a=1), "function", function),
        (functools.partial(Receiver().method), "Receiver.method", Receiver.method),
        (functools.partial(wrapper), "function", function),
        (Receiver().method, "Receiver.method", Receiver.method),
        (Receiver(), "Receiver.__call__", Receiver.__call__),
    ],
)
def test_receivers(connect, receiver, name, code):
    connect(receiver, weak=False)
    (found,) = listed(NAME).connections
    assert found.receiver == f"{__name__}.{name}"
    assert (found.file, found.line) == (HERE, code.__code__.co_firstlineno)
    assert found.asynchronous is (receiver is coroutine_function)
    assert (found.weak, found.sender, found.dispatch_uid) == (False, None, None)


def test_receiver_that_is_written_in_c(connect, tell):
    connect([].append, weak=False)
    (found,) = listed(NAME).connections
    assert found.receiver == "builtins.list.append"
    assert (found.file, found.line, found.app) == (None, None, None)
    _, row = tell("--signal", NAME).splitlines()
    assert row.split() == ["builtins.list.append", "every", "sender", "strong"]


def test_how_receivers_are_connected(connect):
    one, other = Receiver(), Receiver()
    connect(one.method, sender=User, dispatch_uid="this")
    connect(other.method, sender=apps.get_app_config("auth"), dispatch_uid=("a", 1))
    connect(function, sender=Sender)
    first, second, third = listed(NAME).connections
    assert all(each.weak for each in (first, second, third))
    assert (first.sender, first.dispatch_uid) == ("auth.User", "'this'")
    assert (second.sender, second.dispatch_uid) == (
        "django.contrib.auth",
        "('a', 1)",
    )
    assert (third.sender, third.dispatch_uid) == (f"{__name__}.Sender", None)
    del one
    gc.collect()
    assert listed(NAME).connections == [second, third]


def test_senders_of_other_kinds(connect):
    """Their representation may be long, or query a database."""
    sender = Receiver()
    connect(function, sender=sender)
    (found,) = listed(NAME).connections
    known = f"a {__name__}.Receiver" if WATCHES_SENDERS else "an object"
    assert found.sender == known


def test_app_of_a_receiver():
    found = listed("django.contrib.auth.signals.user_logged_in").connections
    (receiver,) = (each for each in found if each.app)
    assert receiver.app == "auth"
    assert receiver.receiver == "django.contrib.auth.models.update_last_login"


@pytest.mark.usefixtures("swapped")
def test_signals_that_are_swapped(connect):
    connect(function)
    assert [one.receiver for one in listed(NAME).connections] == [dotted(function)]


# The command.


@pytest.fixture
def tell(capsys):
    def run(*arguments):
        call_command("altdispatch", "signals", *arguments)
        return capsys.readouterr().out

    with pytest.MonkeyPatch.context() as patched:
        # The command is there without the app, whose ready() would swap.
        patched.setattr(
            "django.core.management.get_commands",
            lambda: {"altdispatch": "altdispatch"},
        )
        # Whatever the tests are run on.
        patched.setenv("COLUMNS", "1000")
        yield run


def test_table(tell, connect, monkeypatch):
    monkeypatch.chdir(Path(HERE).parent)
    connect(function, sender=User, dispatch_uid="this")
    connect(coroutine_function, weak=False)
    lines = tell("--signal", NAME).splitlines()
    line, async_line = (
        each.__code__.co_firstlineno for each in (function, coroutine_function)
    )
    name = Path(HERE).name
    head, first, second = lines
    assert head == NAME
    assert first.split() == [
        f"{__name__}.function",
        *("auth.User", f"{name}:{line}", "weak,", "uid", "'this'"),
    ]
    assert second.split() == [
        f"{__name__}.coroutine_function",
        *("every", "sender", f"{name}:{async_line}", "strong,", "async"),
    ]
    for first_cell, second_cell in [("auth", "every"), ("weak", "strong")]:
        assert first.index(first_cell) == second.index(second_cell)
    assert "\033[" in tell("--signal", NAME, "--force-color")


def test_json(tell, connect):
    connect(function, sender=User)
    (signal,) = json.loads(tell("--signal", "announced", "--json"))
    assert signal["name"] == NAME
    assert signal["connections"] == [
        {
            "receiver": f"{__name__}.function",
            "file": HERE,
            "line": function.__code__.co_firstlineno,
            "app": None,
            "sender": "auth.User",
            "weak": True,
            "asynchronous": False,
            "dispatch_uid": None,
            "task": None,
            "hybrid": False,
        }
    ]


def names(output):
    return [signal["name"] for signal in json.loads(output)]


def test_selecting_by_name(tell):
    assert names(tell("--signal", "post_save", "--json")) == [
        "django.db.models.signals.post_save"
    ]
    both = names(tell("--signal", "django.db.models.signals.*_save", "--json"))
    assert both == [f"django.db.models.signals.{name}_save" for name in ("post", "pre")]
    with pytest.raises(CommandError, match="There is no signal 'post_saved'"):
        tell("--signal", "post_saved")


def test_selecting_by_sender(tell, connect):
    connect(function, sender=User)
    connect(function, sender=Group)
    connect(coroutine_function)
    output = tell("--signal", "announced", "--sender", "auth.User", "--json")
    ((signal),) = json.loads(output)
    assert [(one["receiver"], one["sender"]) for one in signal["connections"]] == [
        (f"{__name__}.function", "auth.User"),
        (f"{__name__}.coroutine_function", None),
    ]
    assert f"{__name__}.unheard" not in names(tell("--sender", "auth.User", "--json"))
    with pytest.raises(CommandError, match=r"is named 'auth\.Usr'"):
        tell("--sender", "auth.Usr")


def test_selecting_by_sender_in_another_case(tell, connect):
    connect(function, sender=User)
    assert "auth.User" in tell("--signal", "announced", "--sender", "AUTH.user")


@pytest.mark.parametrize("app", ["auth", "django.contrib.auth"])
def test_selecting_by_app(tell, app):
    output = tell("--app", app, "--json")
    apps_of = [one["app"] for each in json.loads(output) for one in each["connections"]]
    assert set(apps_of) == {"auth"}
    with pytest.raises(CommandError, match="no app 'nix'"):
        tell("--app", "nix")


def test_selecting_what_is_not_there(tell, connect):
    connect(function)
    assert tell("--app", "sessions") == (
        "No receiver in the app 'sessions' is connected.\n"
    )
    assert tell("--app", "auth", "--sender", "auth.Group", "--signal", "announced") == (
        "No receiver in the app 'auth' is connected for auth.Group to announced.\n"
    )
    assert tell("--signal", "announced", "--unheard") == (
        "Each of these signals has receivers.\n"
    )
    assert json.loads(tell("--app", "sessions", "--json")) == []


def test_signals_that_nobody_listens_to(tell, connect):
    connect(function)
    output = tell()
    assert f"{NAME}\n" in output
    assert "unheard" not in output
    assert "no receivers\n" not in output
    every = tell("--all")
    hidden = len(re.findall("^  no receivers$", every, re.MULTILINE))
    assert f"{hidden} signals without receivers are hidden. " in output
    assert "--all" not in every
    # What is asked for is shown.
    assert tell("--signal", "unheard") == f"{__name__}.unheard\n  no receivers\n"
    assert set(names(tell("--all", "--json"))) > set(names(tell("--json"))) > {NAME}
    with pytest.raises(CommandError, match="not allowed with"):
        tell("--all", "--unheard")


def test_all_beside_what_is_selected(tell, connect):
    """Signals whose receivers are left out are not said to have none."""
    connect(function, sender=User)
    output = tell("--all", "--app", "auth")
    assert "  django.contrib.auth.models.update_last_login " in output
    assert f"{__name__}.unheard\n  no receivers\n" in output
    assert NAME not in output.splitlines()
    assert "No receiver" not in output
    assert tell("--all", "--app", "sessions").endswith(
        "  no receivers\nNo receiver in the app 'sessions' is connected.\n"
    )


def test_selecting_the_unheard(tell, connect):
    before = names(tell("--unheard", "--json"))
    assert {NAME, f"{__name__}.unheard"} < set(before)
    connect(function, sender=Group)
    after = names(tell("--unheard", "--json"))
    assert set(before) - set(after) == {NAME}
    assert NAME in names(tell("--unheard", "--sender", "auth.User", "--json"))


@pytest.mark.parametrize("option", ["--signal", "--sender", "--app"])
def test_lost_is_not_combined(tell, option):
    with pytest.raises(CommandError, match="--lost can't be combined with"):
        tell("--lost", option, "auth")


@pytest.mark.parametrize("columns", [1, 40, 80])
def test_fitting_the_terminal(tell, connect, monkeypatch, columns):
    """What is too wide goes on below; a name alone is not broken."""
    uid = "a rather long identifier of this connection"
    connect(function, sender=User, dispatch_uid=uid)
    (line,) = tell("--signal", "announced").splitlines()[1:]
    assert len(line) > 80
    monkeypatch.setenv("COLUMNS", str(columns))
    head, first, *others = tell("--signal", "announced").splitlines()
    assert (head, first) == (NAME, f"  {__name__}.function")
    cells = " ".join(each.removeprefix("    ") for each in others)
    where = f"tests/test_listing.py:{function.__code__.co_firstlineno}"
    assert cells == f"auth.User, {where}, weak, uid '{uid}'"
    assert all(len(each) <= columns or " " not in each.strip() for each in others)


# Receivers that are connected more than once.


def test_repeated(connect, monkeypatch):
    # That it's in an app counts, not that nobody would connect it like this.
    one, other = Receiver(), Receiver()
    connect(one.method)
    connect(other.method)
    connect(function, sender=User)
    connect(function, sender=Group)
    connect(update_last_login, sender=User, dispatch_uid="first")
    connect(update_last_login, sender=Group)
    assert list_repeated() == []
    connect(function, sender=User, dispatch_uid="again")
    assert list_repeated() == []
    connect(update_last_login, sender=User, dispatch_uid="second")
    ((signal, receiver),) = list_repeated()
    assert signal == NAME
    assert receiver.receiver == "django.contrib.auth.models.update_last_login"
    assert (receiver.sender, receiver.dispatch_uid) == ("auth.User", "'second'")


def test_repeated_of_a_signal_without_a_name():
    signal = Signal()
    signal.connect(update_last_login)
    signal.connect(update_last_login, dispatch_uid="again")
    assert list_repeated() == []


# Patches.


class Wrapper:
    """Has the name of what it wraps, as the wrappers of wrapt do."""

    def __init__(self, wrapped):
        functools.update_wrapper(self, wrapped)


@pytest.mark.parametrize(
    ("patch", "name"),
    [
        (function, f"{__name__}.function"),
        (wrapper, f"{__name__}.wrapper"),
        (functools.partial(wrapper), f"{__name__}.wrapper"),
        (Receiver().method, f"{__name__}.Receiver.method"),
        (functools.partial(Receiver().method), f"{__name__}.Receiver.method"),
        (functools.wraps(function)(lambda: None), f"{__name__}.<lambda>"),
        (Wrapper(function), f"{__name__}.Wrapper"),
        ([].append, "builtins.list.append"),
        (Receiver, f"{__name__}.Receiver"),
    ],
)
def test_names_of_patches(patch, name):
    assert name_patch(patch) == name
