"""Signals are found and named among anything that a program may have made."""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import importlib.util
import sys
import threading
from types import MethodType, ModuleType
from unittest import mock

import pytest
from django.conf import settings
from django.contrib.auth.models import update_last_login
from django.core.checks import run_checks
from django.core.management import call_command
from django.db.models import Model
from django.dispatch import Signal
from django.test.utils import override_settings
from django.utils.functional import LazyObject, SimpleLazyObject

import altdispatch
from altdispatch.listing import list_repeated, list_signals
from altdispatch.naming import dotted, find_importable_signals, name_signals
from altdispatch.releases import WATCHES_SENDERS

fed = Signal()


class Woken(BaseException):
    """Code of the zoo has run. No ``except Exception`` hides it."""


def wake(*args, **kwargs):
    raise Woken


def touchy(*bases, **more):
    """Return a class that raises whatever is done with its instances."""
    names = [
        *("__getattribute__", "__getattr__", "__eq__", "__hash__", "__bool__"),
        *("__repr__", "__str__", "__format__", "__iter__", "__len__", "__call__"),
        *("__instancecheck__", "__subclasscheck__"),
    ]
    return type("Touchy", bases, dict.fromkeys(names, wake) | more)


class Metaclass(type):
    """Its classes raise whatever is done with them."""

    __dict__ = __mro__ = __module__ = property(wake)
    __getattribute__ = __getattr__ = __eq__ = __hash__ = __bool__ = wake
    __instancecheck__ = __subclasscheck__ = __subclasses__ = wake


class Lazy(LazyObject):
    _setup = wake


class Proxy:
    """As werkzeug's: everything of it is that of another object."""

    __class__ = __dict__ = __wrapped__ = property(wake)
    __getattr__ = __call__ = wake


class Loop:
    """Claims to be made of itself."""

    def __init__(self):
        self.__wrapped__ = self

    def __call__(self, **kwargs):
        pass


class Slotted:
    __slots__ = ("__wrapped__",)
    __call__ = wake


def make_class_without_module():
    names = {"__builtins__": builtins}
    exec("cls = type('cls', (), {})", names)
    return names["cls"]


def make_animals():
    """Return an object of each kind."""
    with_property = type("C", (), {"__module__": property(wake)})
    with_object = type("C", (), {"__module__": touchy(object)()})
    return [
        touchy(object)(),
        touchy(object, __class__=property(wake), __dict__=property(wake))(),
        touchy(object, __slots__=())(),
        touchy(str)("text"),
        touchy(dict)(),
        Metaclass("Made", (), {}),
        Metaclass("Made", (), {})(),
        make_class_without_module(),
        make_class_without_module()(),
        with_property,
        with_property(),
        with_object,
        SimpleLazyObject(wake),
        Lazy(),
        Proxy(),
        Loop(),
        Slotted(),
        MethodType(touchy(object)(), touchy(object)()),
        functools.partial(Loop()),
        mock.ANY,
        mock.MagicMock(),
        type.__dict__["__module__"],
        None,
    ]


def make_lazy_module():
    spec = importlib.util.find_spec("this")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Zoo:
    """Modules that hold the animals, and signals among them."""

    def __init__(self):
        animals = {f"animal{n}": animal for n, animal in enumerate(make_animals())}
        self.module = ModuleType("zoo")
        self.contents = vars(self.module)
        self.contents.update(animals, signal=Signal(), __getattr__=wake)
        self.contents[5] = self.module.signal
        cage = {**animals, "__module__": "zoo", "inner": Signal()}
        self.module.Cage = type("Cage", (), cage)
        nameless = ModuleType("nameless")
        nameless.signal = Signal()
        del nameless.__name__
        self.modules = {
            "zoo": self.module,
            "odd": touchy(ModuleType)("odd"),
            "empty": ModuleType.__new__(ModuleType),
            "nameless": nameless,
            "lazy": make_lazy_module(),
            **animals,
        }
        self.signals = [self.module.signal, self.module.Cage.inner, nameless.signal]

    @contextlib.contextmanager
    def imported(self):
        """Have the modules among the imported ones, but not while pytest reports."""
        sys.modules.update(self.modules)
        try:
            yield
        finally:
            for name in self.modules:
                del sys.modules[name]


@pytest.fixture
def zoo():
    return Zoo()


@pytest.fixture
def connect():
    """Add an entry to ``fed``, as a program that edits the list can."""
    before = [*fed.receivers]

    def add(receiver, sender=None, uid=None):
        key = (id(receiver) if uid is None else uid, id(sender))
        sender_ref = (None,) if WATCHES_SENDERS else ()
        fed.receivers.append((key, receiver, *sender_ref, False))

    yield add
    fed.receivers[:] = before


@pytest.fixture
def installed():
    """altdispatch among the apps, with its checks."""
    # Classes of signals that other tests have left would be reported.
    gc.collect()
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "altdispatch"]):
        yield
    altdispatch.uninstall()


def listed():
    (found,) = (one for one in list_signals() if one.name == f"{__name__}.fed")
    return found.connections


def test_modules_of_the_zoo(zoo):
    signals = [fed, *zoo.signals]
    with zoo.imported():
        found = {id(signal) for signal in find_importable_signals()}
        names = name_signals(signals)
    assert found >= {id(signal) for signal in signals}
    assert [names[id(signal)] for signal in signals] == [
        f"{__name__}.fed",
        "zoo.signal",
        "zoo.Cage.inner",
        "nameless.signal",
    ]
    # It has not been loaded.
    assert type(zoo.modules["lazy"]) is not ModuleType


def test_module_with_a_name_of_pythons_own(monkeypatch):
    """Projects have an app called ``profile``."""
    module = ModuleType("profile")
    module.__file__ = "/project/profile.py"
    module.changed = Signal()
    monkeypatch.setitem(sys.modules, "profile", module)
    assert module.changed in find_importable_signals()
    assert name_signals([module.changed]) == {id(module.changed): "profile.changed"}


def test_names_of_the_zoo():
    for animal in make_animals():
        name = dotted(animal)
        assert type(name) is str
        assert name.count(".")
    assert dotted(make_class_without_module()) == "builtins.cls"
    assert dotted(SimpleLazyObject(wake)) == dotted(SimpleLazyObject)
    assert dotted(Proxy()) == f"{__name__}.Proxy"
    assert dotted(Metaclass("Made", (), {})) == f"{__name__}.Made"


def test_names_of_what_stands_for_a_function():
    method = Loop().__call__
    assert dotted(method) == f"{__name__}.Loop.__call__"
    assert dotted(functools.wraps(wake)(Loop())) == f"{__name__}.wake"
    assert dotted([].append) == "builtins.list.append"
    assert dotted(list.append) == "builtins.list.append"


def test_receivers_of_the_zoo(connect):
    animals = [animal for animal in make_animals() if animal is not None]
    for animal in animals:
        connect(animal)
        connect(animal, uid="again")
    connections = listed()
    assert len(connections) == 2 * len(animals)
    for connection in connections[1::2]:
        assert connection.dispatch_uid == "'again'"
    list_repeated()


def test_receiver_in_a_slot(connect):
    receiver = Slotted()
    receiver.__wrapped__ = update_last_login
    connect(receiver, uid="uid")
    (connection,) = listed()
    assert connection.receiver == "django.contrib.auth.models.update_last_login"


def test_senders_and_uids_of_the_zoo(connect):
    for animal in make_animals():
        connect(update_last_login, sender=animal, uid=touchy(object)())
        connect(update_last_login, sender=animal, uid=(1, touchy(object)()))


def test_model_itself_as_a_sender(connect):
    fed.connect(update_last_login, sender=Model)
    (connection,) = listed()
    assert connection.sender in ("django.db.models.base.Model", "an object")


def test_entries_that_nobody_connected(connect):
    fed.receivers += [None, (), ("a", "b"), (1, 2, 3, 4), (("a", "b"), 2, 3, 4)]
    connect(update_last_login)
    assert len(listed()) == 1


class Odd(Signal):
    receivers = property(lambda self: 1 / 0)

    def __init__(self):
        pass


def test_signals_that_were_not_initialised(zoo, implementation):
    zoo.contents.update(odd_signal=Odd(), bare_signal=Signal.__new__(Signal))
    with zoo.imported():
        by_name = {signal.name: signal for signal in list_signals()}
    assert by_name["zoo.odd_signal"].connections == []
    assert by_name["zoo.bare_signal"].connections == []
    assert altdispatch.install()
    assert altdispatch.uninstall()


def test_patches_of_the_zoo(installed, zoo):
    expected = {}
    for number, animal in enumerate(make_animals()):
        signal = Signal()
        vars(signal)["_live_receivers"] = animal
        zoo.contents[f"patched{number}"] = signal
        # A partial is named by what it calls.
        patch = animal.func if type(animal) is functools.partial else animal
        expected[f"zoo.patched{number}"] = dotted(patch)
    with zoo.imported():
        slowed = altdispatch.status().patched
        messages = run_checks()
    assert slowed == expected
    for message, (signal, patch) in zip(messages, expected.items(), strict=True):
        assert signal in message.msg
        assert patch in message.msg


def test_commands_in_the_zoo(installed, zoo, capsys):
    with zoo.imported():
        messages = run_checks()
        call_command("altdispatch")
        call_command("altdispatch", "signals", "--signal", "zoo.*")
    output = capsys.readouterr().out
    assert messages == []
    assert "zoo.signal" in output
    assert "zoo.Cage.inner" in output


def test_modules_that_come_and_go():
    stop = threading.Event()

    def import_and_forget():
        while not stop.is_set():
            for number in range(100):
                module = ModuleType(f"passing{number}")
                module.Passing = type("Passing", (), {})
                sys.modules[module.__name__] = module
            for number in range(100):
                del sys.modules[f"passing{number}"]

    thread = threading.Thread(target=import_and_forget)
    thread.start()
    try:
        for _ in range(5):
            assert fed in find_importable_signals()
            assert name_signals([fed])[id(fed)] == f"{__name__}.fed"
    finally:
        stop.set()
        thread.join()


def test_check_does_not_walk_the_heap(installed, monkeypatch):
    """It runs at every ``manage.py runserver``, ``test`` and ``migrate``."""
    with monkeypatch.context() as patched:
        patched.setattr("gc.get_objects", wake)
        assert run_checks() == []
