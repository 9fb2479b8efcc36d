"""Find and name signals among all kinds of objects that a program may create."""

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


class CodeWasRun(BaseException):
    """A hostile object's code has run. No ``except Exception`` hides it."""


def fail(*args, **kwargs):
    raise CodeWasRun


def hostile_class(*bases, **more):
    """Return a class whose instances raise in every operation."""
    names = [
        *("__getattribute__", "__getattr__", "__eq__", "__hash__", "__bool__"),
        *("__repr__", "__str__", "__format__", "__iter__", "__len__", "__call__"),
        *("__instancecheck__", "__subclasscheck__"),
    ]
    return type("Hostile", bases, dict.fromkeys(names, fail) | more)


class HostileMetaclass(type):
    """Its classes raise in every operation."""

    __dict__ = __mro__ = __module__ = property(fail)
    __getattribute__ = __getattr__ = __eq__ = __hash__ = __bool__ = fail
    __instancecheck__ = __subclasscheck__ = __subclasses__ = fail


class Lazy(LazyObject):
    _setup = fail


class Proxy:
    """Like werkzeug's proxies, it forwards everything to another object."""

    __class__ = __dict__ = __wrapped__ = property(fail)
    __getattr__ = __call__ = fail


class Loop:
    """It claims to wrap itself."""

    def __init__(self):
        self.__wrapped__ = self

    def __call__(self, **kwargs):
        pass


class Slotted:
    __slots__ = ("__wrapped__",)
    __call__ = fail


def make_class_without_module():
    names = {"__builtins__": builtins}
    exec("cls = type('cls', (), {})", names)
    return names["cls"]


def make_objects():
    """Return an object of each kind."""
    with_property = type("C", (), {"__module__": property(fail)})
    with_object = type("C", (), {"__module__": hostile_class(object)()})
    return [
        hostile_class(object)(),
        hostile_class(object, __class__=property(fail), __dict__=property(fail))(),
        hostile_class(object, __slots__=())(),
        hostile_class(str)("text"),
        hostile_class(dict)(),
        HostileMetaclass("Made", (), {}),
        HostileMetaclass("Made", (), {})(),
        make_class_without_module(),
        make_class_without_module()(),
        with_property,
        with_property(),
        with_object,
        SimpleLazyObject(fail),
        Lazy(),
        Proxy(),
        Loop(),
        Slotted(),
        MethodType(hostile_class(object)(), hostile_class(object)()),
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


class Hostiles:
    """Modules that contain the hostile objects, and signals among them."""

    def __init__(self):
        objects = {f"object{n}": each for n, each in enumerate(make_objects())}
        self.module = ModuleType("hostiles")
        self.contents = vars(self.module)
        self.contents.update(objects, signal=Signal(), __getattr__=fail)
        self.contents[5] = self.module.signal
        names = {**objects, "__module__": "hostiles", "inner": Signal()}
        self.module.Holder = type("Holder", (), names)
        nameless = ModuleType("nameless")
        nameless.signal = Signal()
        del nameless.__name__
        self.modules = {
            "hostiles": self.module,
            "odd": hostile_class(ModuleType)("odd"),
            "empty": ModuleType.__new__(ModuleType),
            "nameless": nameless,
            "lazy": make_lazy_module(),
            **objects,
        }
        self.signals = [self.module.signal, self.module.Holder.inner, nameless.signal]

    @contextlib.contextmanager
    def imported(self):
        """Import the modules for the block only, so that pytest doesn't see them."""
        sys.modules.update(self.modules)
        try:
            yield
        finally:
            for name in self.modules:
                del sys.modules[name]


@pytest.fixture
def hostiles():
    return Hostiles()


@pytest.fixture
def connect():
    """Return a function that adds an entry to ``fed``, as a program can."""
    before = [*fed.receivers]

    def add(receiver, sender=None, uid=None):
        key = (id(receiver) if uid is None else uid, id(sender))
        sender_ref = (None,) if WATCHES_SENDERS else ()
        fed.receivers.append((key, receiver, *sender_ref, False))

    yield add
    fed.receivers[:] = before


@pytest.fixture
def installed():
    """Add altdispatch to the apps, with its checks."""
    # The checks would report signal classes left by other tests.
    gc.collect()
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "altdispatch"]):
        yield
    altdispatch.uninstall()


def listed():
    (found,) = (one for one in list_signals() if one.name == f"{__name__}.fed")
    return found.connections


def test_hostile_modules(hostiles):
    signals = [fed, *hostiles.signals]
    with hostiles.imported():
        found = {id(signal) for signal in find_importable_signals()}
        names = name_signals(signals)
    assert found >= {id(signal) for signal in signals}
    assert [names[id(signal)] for signal in signals] == [
        f"{__name__}.fed",
        "hostiles.signal",
        "hostiles.Holder.inner",
        "nameless.signal",
    ]
    # The lazy module must not have been loaded.
    assert type(hostiles.modules["lazy"]) is not ModuleType


def test_module_named_like_one_of_the_standard_library(monkeypatch):
    """Some projects have an app called ``profile``."""
    module = ModuleType("profile")
    module.__file__ = "/project/profile.py"
    module.changed = Signal()
    monkeypatch.setitem(sys.modules, "profile", module)
    assert module.changed in find_importable_signals()
    assert name_signals([module.changed]) == {id(module.changed): "profile.changed"}


def test_names_of_hostile_objects():
    for each in make_objects():
        name = dotted(each)
        assert type(name) is str
        assert name.count(".")
    assert dotted(make_class_without_module()) == "builtins.cls"
    assert dotted(SimpleLazyObject(fail)) == dotted(SimpleLazyObject)
    assert dotted(Proxy()) == f"{__name__}.Proxy"
    assert dotted(HostileMetaclass("Made", (), {})) == f"{__name__}.Made"


def test_names_of_wrappers_of_functions():
    method = Loop().__call__
    assert dotted(method) == f"{__name__}.Loop.__call__"
    assert dotted(functools.wraps(fail)(Loop())) == f"{__name__}.fail"
    assert dotted([].append) == "builtins.list.append"
    assert dotted(list.append) == "builtins.list.append"


def test_hostile_receivers(connect):
    objects = [each for each in make_objects() if each is not None]
    for each in objects:
        connect(each)
        connect(each, uid="again")
    connections = listed()
    assert len(connections) == 2 * len(objects)
    for connection in connections[1::2]:
        assert connection.dispatch_uid == "'again'"
    list_repeated()


def test_wrapped_function_in_a_slot(connect):
    receiver = Slotted()
    receiver.__wrapped__ = update_last_login
    connect(receiver, uid="uid")
    (connection,) = listed()
    assert connection.receiver == "django.contrib.auth.models.update_last_login"


def test_hostile_senders(connect):
    objects = [each for each in make_objects() if each is not None]
    for each in objects:
        connect(update_last_login, sender=each)
    assert len(listed()) == len(objects)


def test_uid_whose_repr_raises(connect):
    class Uid:
        def __repr__(self):
            raise ValueError

    connect(update_last_login, uid=Uid())
    (connection,) = listed()
    assert connection.dispatch_uid == f"a {__name__}.{Uid.__qualname__}"


def test_model_class_as_a_sender(connect):
    fed.connect(update_last_login, sender=Model)
    (connection,) = listed()
    assert connection.sender in ("django.db.models.base.Model", "an object")


def test_entries_not_made_by_connect(connect):
    fed.receivers += [None, (), ("a", "b"), (1, 2, 3, 4), (("a", "b"), 2, 3, 4)]
    connect(update_last_login)
    assert len(listed()) == 1


class Odd(Signal):
    receivers = property(lambda self: 1 / 0)

    def __init__(self):
        pass


def test_uninitialised_signals(hostiles, implementation):
    hostiles.contents.update(odd_signal=Odd(), bare_signal=Signal.__new__(Signal))
    with hostiles.imported():
        by_name = {signal.name: signal for signal in list_signals()}
    assert by_name["hostiles.odd_signal"].connections == []
    assert by_name["hostiles.bare_signal"].connections == []
    assert altdispatch.install()
    assert altdispatch.uninstall()


def test_hostile_patches(installed, hostiles):
    expected = {}
    for number, each in enumerate(make_objects()):
        signal = Signal()
        vars(signal)["_live_receivers"] = each
        hostiles.contents[f"patched{number}"] = signal
        # A partial has the name of its function.
        patch = each.func if type(each) is functools.partial else each
        expected[f"hostiles.patched{number}"] = dotted(patch)
    with hostiles.imported():
        slowed = altdispatch.status().patched
        messages = run_checks()
    assert slowed == expected
    for message, (signal, patch) in zip(messages, expected.items(), strict=True):
        assert signal in message.msg
        assert patch in message.msg


def test_commands_with_hostile_modules(installed, hostiles, capsys):
    with hostiles.imported():
        messages = run_checks()
        call_command("altdispatch")
        call_command("altdispatch", "signals", "--signal", "hostiles.*")
    output = capsys.readouterr().out
    assert messages == []
    assert "hostiles.signal" in output
    assert "hostiles.Holder.inner" in output


def test_modules_imported_and_removed_in_a_thread():
    stop = threading.Event()

    def import_and_remove():
        while not stop.is_set():
            for number in range(100):
                module = ModuleType(f"passing{number}")
                module.Passing = type("Passing", (), {})
                sys.modules[module.__name__] = module
            for number in range(100):
                del sys.modules[f"passing{number}"]

    thread = threading.Thread(target=import_and_remove)
    thread.start()
    try:
        for _ in range(5):
            assert fed in find_importable_signals()
            assert name_signals([fed])[id(fed)] == f"{__name__}.fed"
    finally:
        stop.set()
        thread.join()


def test_check_does_not_walk_the_heap(installed, monkeypatch):
    """The check runs at every ``manage.py runserver``, ``test`` and ``migrate``."""
    with monkeypatch.context() as patched:
        patched.setattr("gc.get_objects", fail)
        assert run_checks() == []
