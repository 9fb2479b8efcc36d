"""Signals are found and named among anything that a program may have made."""

from __future__ import annotations

import builtins
import functools
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
from django.db.models.signals import post_save
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
    cls = names["cls"]
    with pytest.raises(AttributeError):
        _ = cls.__module__
    return cls


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


@pytest.fixture
def zoo(monkeypatch):
    """A module that holds the animals, with a signal among them, and odd modules."""
    animals = make_animals()
    module = ModuleType("zoo")
    contents = {f"animal{number}": animal for number, animal in enumerate(animals)}
    vars(module).update(contents, signal=Signal(), __getattr__=wake)
    vars(module)[5] = module.signal
    # And in a class that is written there.
    module.Cage = type("Cage", (), {**contents, "__module__": "zoo", "inner": Signal()})
    odd = touchy(ModuleType)("odd")
    empty = ModuleType.__new__(ModuleType)
    nameless = ModuleType("nameless")
    nameless.signal = Signal()
    del nameless.__name__
    modules = {
        "zoo": module,
        "odd": odd,
        "empty": empty,
        "nameless": nameless,
        "lazy": make_lazy_module(),
        **{f"animal{number}": animal for number, animal in enumerate(animals)},
    }
    for name, each in modules.items():
        monkeypatch.setitem(sys.modules, name, each)
    return module


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
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "altdispatch"]):
        yield
    altdispatch.uninstall()


def listed():
    (found,) = (one for one in list_signals() if one.name == f"{__name__}.fed")
    return found.connections


def test_modules_of_the_zoo(zoo):
    signals = [fed, zoo.signal, zoo.Cage.inner, sys.modules["nameless"].signal]
    found = {id(signal) for signal in find_importable_signals()}
    assert found >= {id(signal) for signal in signals}
    names = name_signals(signals)
    assert [names[id(signal)] for signal in signals] == [
        f"{__name__}.fed",
        "zoo.signal",
        "zoo.Cage.inner",
        "nameless.signal",
    ]
    assert type(sys.modules["lazy"]) is not ModuleType  # It has not been loaded.


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


def test_entries_that_nobody_connected(connect, zoo):
    fed.receivers += [None, (), ("a", "b"), (1, 2, 3, 4), (("a", "b"), 2, 3, 4)]
    connect(update_last_login)
    assert len(listed()) == 1


class Odd(Signal):
    receivers = property(lambda self: 1 / 0)

    def __init__(self):
        pass


def test_signals_that_were_not_initialised(zoo, implementation):
    zoo.signals = signals = [Odd(), Signal.__new__(Signal)]
    zoo.odd_signal, zoo.bare_signal = signals
    by_name = {signal.name: signal for signal in list_signals()}
    assert by_name["zoo.odd_signal"].connections == []
    assert by_name["zoo.bare_signal"].connections == []
    assert altdispatch.install()
    assert altdispatch.uninstall()


def test_patches_of_the_zoo(implementation, installed, zoo, monkeypatch):
    for animal in make_animals():
        with monkeypatch.context() as patched:
            patched.setitem(vars(post_save), "_live_receivers", animal)
            slowed = altdispatch.status().slowed
            assert slowed == {"django.db.models.signals.post_save": dotted(animal)}
            (message,) = run_checks()
            assert "post_save" in message.msg


def test_commands_in_the_zoo(installed, zoo, capsys):
    assert run_checks() == []
    call_command("altdispatch")
    call_command("altdispatch", "signals", "--signal", "zoo.*")
    output = capsys.readouterr().out
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
        for _ in range(20):
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
