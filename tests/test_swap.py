"""``install()``, ``uninstall()``, ``is_installed()``, ``status()``; app and check."""

from __future__ import annotations

import gc
import platform
import sys
import sysconfig
import threading
from functools import partial, wraps
from unittest import mock

import django
import django.dispatch
import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import update_last_login
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.signals import request_started
from django.db.models.signals import ModelSignal, post_save
from django.test import override_settings

import altdispatch
from altdispatch import swap
from altdispatch.utils import connected

from .implementations import COUNTS_REFERENCES

WITH_ALTDISPATCH = [*settings.INSTALLED_APPS, "altdispatch"]
METHODS = [n for n, m in vars(altdispatch.Signal).items() if callable(m)]


class Sender:
    pass


def receiver(**kwargs):
    return "answer"


@pytest.fixture
def clean():
    """Whatever a test does, nothing stays swapped."""
    # Classes of signals that other tests have left would be reported.
    gc.collect()
    yield
    altdispatch.uninstall()


@pytest.fixture
def unknown(monkeypatch, clean):
    """A Django whose dispatcher altdispatch doesn't know."""
    monkeypatch.setattr(swap, "_KNOWN", {})
    swap.is_known.cache_clear()
    yield
    swap.is_known.cache_clear()


def class_contents(cls):
    """Return what there is to the class, to the byte."""
    return [
        (name, id(value), getattr(value, "__code__", None))
        for name, value in vars(cls).items()
    ]


@pytest.mark.usefixtures("clean")
def test_uninstall_leaves_django_as_it_was(implementation):
    classes = [django.dispatch.Signal, ModelSignal]
    before = [class_contents(cls) for cls in classes]
    assert altdispatch.install() is True
    assert class_contents(django.dispatch.Signal) != before[0]
    assert altdispatch.uninstall() is True
    assert [class_contents(cls) for cls in classes] == before
    assert altdispatch.uninstall() is False


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("caching", [False, True])
def test_uninstall_leaves_receivers_connected(caching):
    signals = [django.dispatch.Signal(use_caching=caching)]
    signals[0].connect(receiver, sender=Sender)
    altdispatch.install()
    signals.append(django.dispatch.Signal(use_caching=caching))
    for signal in signals:
        signal.connect(receiver)
        signal.connect(receiver, sender=Sender)
        for sender in (Sender, Sender, int):
            signal.send(sender)
    entries = [signal.receivers[:] for signal in signals]
    altdispatch.uninstall()
    for signal, before in zip(signals, entries, strict=True):
        # Without counts of references, somebody else may have the other kind of list.
        assert type(signal.receivers) is list or not COUNTS_REFERENCES
        assert signal.receivers == before
        for value in signal.sender_receivers_cache.values():
            assert type(value) in (list, object)
        assert signal.send(int) == [(receiver, "answer")]
        assert signal.disconnect(receiver)
        assert len(signal.send(Sender)) == signal.disconnect(receiver, sender=Sender)


@pytest.mark.usefixtures("clean")
def test_uninstall_leaves_a_list_that_somebody_has(implementation):
    altdispatch.install()
    signal = django.dispatch.Signal()
    signal.connect(receiver)
    kept = signal.receivers
    altdispatch.uninstall()
    kept.clear()
    assert signal.send(Sender) == []


@pytest.mark.usefixtures("clean")
def test_uninstall_waits_for_no_lock_that_it_does_not_need(implementation):
    altdispatch.install()
    signal = django.dispatch.Signal()
    signal.connect(receiver)
    with signal.lock:
        thread = threading.Thread(target=altdispatch.uninstall)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.usefixtures("clean")
def test_uninstall_leaves_signals_of_our_own_alone(Signal):
    signal = Signal()
    altdispatch.install()
    altdispatch.uninstall()
    receivers = [lambda number=number, **kwargs: number for number in range(100)]
    for each in receivers:
        signal.connect(each)
    altdispatch.install()
    altdispatch.uninstall()
    # Without counts of references, another reference to the list may edit it.
    kind = altdispatch.receivers.Receivers if COUNTS_REFERENCES else list
    assert type(signal.receivers) is kind


@pytest.mark.usefixtures("clean")
def test_installing_twice_is_installing_once(implementation):
    before = class_contents(django.dispatch.Signal)
    assert altdispatch.install()
    once = class_contents(django.dispatch.Signal)
    assert altdispatch.install()
    assert class_contents(django.dispatch.Signal) == once
    altdispatch.uninstall()
    assert class_contents(django.dispatch.Signal) == before
    assert not altdispatch.is_installed()


@pytest.mark.usefixtures("clean")
def test_swapping_back_and_forth_with_receivers(implementation):
    signal = django.dispatch.Signal(use_caching=True)
    for _ in range(3):
        signal.connect(receiver, sender=Sender)
        assert signal.send(Sender) == [(receiver, "answer")]
        altdispatch.install()
        assert signal.send(Sender) == [(receiver, "answer")]
        assert signal.disconnect(receiver, sender=Sender)
        signal.connect(receiver, sender=Sender)
        altdispatch.uninstall()
    assert len(signal.receivers) == 1


@pytest.mark.usefixtures("clean")
def test_status(implementation):
    before = altdispatch.status()
    assert (before.installed, before.swapped, before.left_alone) == (False, (), {})
    assert (before.rows()["installed"], before.rows()["swapped"]) == ("no", "nothing")
    altdispatch.install()
    now = altdispatch.status()
    assert now.installed is altdispatch.is_installed() is True
    assert now.implementation == implementation
    assert now.known is True
    assert now.django == django.get_version()
    assert now.python == platform.python_version()
    assert list(now.swapped) == METHODS
    assert now.left_alone == {}
    assert now.rows()["installed"] == "yes"
    for part in (implementation, now.django, now.python, "send_robust", "known"):
        assert part in str(now)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["_live_receivers", "send", "connect"])
def test_method_that_somebody_patched_is_left_alone(implementation, when, method):
    """As sentry_sdk.init() does in settings, before any app is there."""
    original = getattr(django.dispatch.Signal, method)
    called = []

    def patched(self, *args, **kwargs):
        called.append(method)
        return current(self, *args, **kwargs)

    signal = django.dispatch.Signal(use_caching=True)
    if when == "after":
        altdispatch.install()
    current = getattr(django.dispatch.Signal, method)
    with mock.patch.object(django.dispatch.Signal, method, patched):
        altdispatch.install()
        now = altdispatch.status()
        assert method not in now.swapped
        assert list(now.left_alone) == [method]
        assert now.left_alone[method].endswith(patched.__qualname__)
        for _ in range(3):
            signal.connect(receiver, sender=Sender)
            assert signal.send(Sender) == [(receiver, "answer")]
        assert len(called) >= 3
        assert signal.disconnect(receiver, sender=Sender)
        assert signal.send(Sender) == []
        if when == "before":
            altdispatch.uninstall()
            assert vars(django.dispatch.Signal)[method] is patched
    altdispatch.uninstall()
    assert getattr(django.dispatch.Signal, method) is original


@pytest.mark.usefixtures("clean")
def test_wrapper_that_claims_to_be_djangos_own(implementation):
    """As functools.wraps() makes it, whatever it copies."""
    original = django.dispatch.Signal.send
    calls = []

    def send(self, sender, **named):
        calls.append(sender)
        return original(self, sender, **named)

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(send, name, getattr(original, name))
    send.__wrapped__ = original
    with mock.patch.object(django.dispatch.Signal, "send", send):
        altdispatch.install()
        assert "send" not in altdispatch.status().swapped
        django.dispatch.Signal().send(Sender)
        altdispatch.uninstall()
    assert calls == [Sender]


@pytest.mark.usefixtures("clean")
def test_patch_put_over_ours_stays_after_uninstall(implementation):
    altdispatch.install()
    ours = django.dispatch.Signal.send
    with mock.patch.object(
        django.dispatch.Signal, "send", lambda *args, **named: ours(*args, **named)
    ):
        altdispatch.uninstall()
        signal = django.dispatch.Signal()
        signal.connect(receiver)
        assert signal.send(Sender) == [(receiver, "answer")]
        assert list(altdispatch.status().left_alone) == ["send"]
        altdispatch.install()
        assert signal.send(Sender) == [(receiver, "answer")]
        altdispatch.uninstall()
    # mock.patch has put back what it found, which was ours.
    assert django.dispatch.Signal.send is ours
    django.dispatch.Signal.send = ORIGINAL_SEND


ORIGINAL_SEND = django.dispatch.Signal.send


@pytest.mark.usefixtures("clean")
def test_uninstall_does_not_wake_lazy_objects():
    """It looks for signals among all objects, and looks at their types only."""
    woken = []

    class Lazy:
        @property
        def __class__(self):
            woken.append(self)
            return Lazy

    lazy = Lazy()
    gc.collect()
    altdispatch.install()
    altdispatch.uninstall()
    assert not woken
    assert type(lazy) is Lazy


# A dispatcher that isn't known.


def test_every_supported_dispatcher_is_known():
    assert swap.is_known()
    assert set(swap._KNOWN.values()) == {"5.2", "6.0", "6.1"}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda source: source, True),
        (lambda source: source.replace("# A marker for caching", "# A mark"), True),
        (
            lambda source: source.replace('    """\n    Base class', '    """\n    A'),
            True,
        ),
        (lambda source: source.replace("\n\n\n", "\n\n\n\n"), True),
        (lambda source: source.replace("is NO_RECEIVERS", "== NO_RECEIVERS"), False),
        (lambda source: source.replace("with self.lock", "if self.lock"), False),
    ],
)
def test_what_a_dispatcher_is_known_by(change, same):
    with open(django.dispatch.dispatcher.__file__) as file:
        source = file.read()
    changed = change(source)
    assert same or changed != source
    assert (swap._digest(changed) in swap._KNOWN) is same


def test_dispatcher_without_source_is_unknown(monkeypatch, clean):
    def getsource(module):
        raise OSError("source code not available")

    monkeypatch.setattr(swap.inspect, "getsource", getsource)
    swap.is_known.cache_clear()
    assert not swap.is_known()
    swap.is_known.cache_clear()


@pytest.mark.usefixtures("unknown")
def test_unknown_dispatcher_is_left_alone():
    before = class_contents(django.dispatch.Signal)
    assert altdispatch.install() is False
    assert not altdispatch.is_installed()
    assert class_contents(django.dispatch.Signal) == before
    now = altdispatch.status()
    assert not now.known
    assert "(unknown)" in str(now)


def test_unknown_dispatcher_that_lacks_what_the_known_have(run_python):
    output = run_python(
        """
        import django.dispatch.dispatcher as dispatcher

        before = vars(dispatcher.Signal).copy()
        names = "_make_id", "NONE_ID", "NO_RECEIVERS", "iscoroutinefunction"
        for name in names:
            delattr(dispatcher, name)
        import altdispatch

        altdispatch.swap._KNOWN.clear()
        print(altdispatch.install(), vars(dispatcher.Signal) == before)
        """
    )
    assert output == "False True\n"


@pytest.mark.usefixtures("unknown")
def test_unknown_dispatcher_is_swapped_by_force():
    assert altdispatch.install(force=True) is True
    assert altdispatch.is_installed()
    assert list(altdispatch.status().swapped) == METHODS
    assert not altdispatch.status().known


@pytest.mark.usefixtures("unknown")
def test_check_for_an_unknown_dispatcher():
    with override_settings(INSTALLED_APPS=WITH_ALTDISPATCH):
        assert not altdispatch.is_installed()
        (warning,) = run_checks()
        assert warning.id == "altdispatch.W001"
        assert django.get_version() in warning.msg
        assert '"FORCE": True' in warning.hint
        assert "newer altdispatch" in warning.hint


@pytest.mark.usefixtures("clean")
def test_check_for_the_extension(implementation, monkeypatch):
    def find():
        return [message for message in run_checks() if message.id.startswith("alt")]

    monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", "")
    with override_settings(INSTALLED_APPS=WITH_ALTDISPATCH):
        warnings = find()
        if implementation == "c" or sys.implementation.name != "cpython":
            assert warnings == []
        else:
            (warning,) = warnings
            assert warning.id == "altdispatch.W002"
            assert altdispatch.status().reason in warning.msg
            assert "ALTDISPATCH_PURE_PYTHON=1" in warning.hint
            with monkeypatch.context() as patched:
                patched.setattr(sysconfig, "get_config_var", lambda name: 1)
                assert find() == []
        monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", "1")
        assert find() == []


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="never has it")
def test_check_for_the_extension_in_another_interpreter(monkeypatch):
    """There, installing it again doesn't help."""
    from altdispatch.checks import check_extension_is_there

    reason = (
        "the extension can't be loaded: another interpreter in this process uses it"
    )
    chosen = altdispatch.implementations.in_python(reason)
    monkeypatch.setattr(altdispatch.implementations, "in_use", chosen)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: 0)
    monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", "")
    (warning,) = check_extension_is_there()
    assert reason in warning.msg
    assert "nstall" not in warning.hint


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["_live_receivers", "_clear_dead_receivers"])
def test_patched_look_ups(implementation, when, name, monkeypatch):
    """It's in the status, and there's a check."""
    original = getattr(django.dispatch.Signal, name)

    @wraps(original)
    def patch(signal, *args):
        return original(signal, *args)

    class Overrides(django.dispatch.Signal):
        pass

    class Inherits(Overrides):
        pass

    setattr(Overrides, name, patch)
    signal = Inherits()
    # It can't be imported, and may be waiting for the garbage collector.
    unnamed = django.dispatch.Signal()
    setattr(unnamed, name, partial(patch, unnamed))
    monkeypatch.setattr(post_save, name, partial(patch, post_save), raising=False)
    described = f"{__name__}.test_patched_look_ups.<locals>.patch"
    with pytest.MonkeyPatch.context() as patched:
        if when == "before":
            patched.setattr(django.dispatch.Signal, name, patch)
        assert altdispatch.status().patched == {}
        with override_settings(INSTALLED_APPS=WITH_ALTDISPATCH):
            if when == "after":
                patched.setattr(django.dispatch.Signal, name, patch)
            patches = altdispatch.status().patched
            assert patches == {
                "django.dispatch.dispatcher.Signal": described,
                f"{__name__}.test_patched_look_ups.<locals>.Overrides": described,
                "django.db.models.signals.post_save": described,
            }
            messages = run_checks()
            assert [message.id for message in messages] == ["altdispatch.I003"] * 3
            for message, (owner, method) in zip(messages, patches.items(), strict=True):
                assert message.msg == (
                    f"The package 'tests' has patched {owner}.{name} ({method})."
                )
                is_fast = name == "_live_receivers"
                assert ("Nothing is wrong" in message.hint) is is_fast
                assert ("plain Python" in message.hint) is not is_fast
            assert described in altdispatch.status().rows()["patched lookup"]
    # Subclasses are listed by their base until they are collected.
    del signal, unnamed, Overrides, Inherits
    gc.collect()


@pytest.mark.usefixtures("clean")
def test_check_for_receivers_that_are_connected_again():
    with (
        override_settings(INSTALLED_APPS=WITH_ALTDISPATCH),
        connected(update_last_login, request_started),
    ):
        assert run_checks() == []
        request_started.connect(update_last_login)
        (message,) = run_checks()
        request_started.connect(update_last_login, dispatch_uid="again")
        _, other = run_checks()
        request_started.disconnect(dispatch_uid="again")
        request_started.disconnect(update_last_login)
    assert message.id == "altdispatch.I004"
    assert "django.contrib.auth.models.update_last_login" in message.msg
    assert "django.core.signals.request_started" in message.msg
    assert message.msg.endswith("it is connected again without a dispatch_uid.")
    assert other.msg.endswith("it is connected again with dispatch_uid 'again'.")


@pytest.mark.usefixtures("unknown")
def test_setting_that_overrides():
    # One after the other: apps are set up before other settings are overridden.
    with (
        override_settings(ALTDISPATCH={"FORCE": True}),
        override_settings(INSTALLED_APPS=WITH_ALTDISPATCH),
    ):
        assert altdispatch.is_installed()
        assert run_checks() == []


# The app.


@pytest.mark.usefixtures("clean")
def test_app_installs():
    with override_settings(INSTALLED_APPS=WITH_ALTDISPATCH):
        assert altdispatch.is_installed()
        assert run_checks() == []
        assert apps.get_app_config("altdispatch").name == "altdispatch"
        with override_settings(INSTALLED_APPS=["django.contrib.auth", "altdispatch"]):
            assert altdispatch.is_installed()
    assert altdispatch.is_installed()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (True, "must be a dictionary"),
        ({"FORCED": True}, "'FORCED' is not an option .* It has: .*FORCE"),
        ({"FORCE": "yes"}, "'FORCE' of the setting ALTDISPATCH must be True or False"),
        (
            {"DEFER_REQUEST_THREADS": 1},
            "'DEFER_REQUEST_THREADS' .* must be True or Fal",
        ),
        ({"TASK_DATABASES": ["default"]}, "from aliases of TASKS to aliases of DATAB"),
        ({"TASK_DATABASES": {"imm": "default"}}, "'imm', which is not in TASKS"),
        ({"TASK_DATABASES": {"default": "nope"}}, "'nope', which is not in DATABASES"),
    ],
)
@pytest.mark.usefixtures("clean")
def test_wrong_setting_is_refused(setting, message):
    with (
        pytest.raises(ImproperlyConfigured, match=message),
        override_settings(ALTDISPATCH=setting),
        override_settings(INSTALLED_APPS=WITH_ALTDISPATCH),
    ):
        pass
    assert not altdispatch.is_installed()


@pytest.mark.usefixtures("clean")
def test_management_command(capsys):
    with override_settings(INSTALLED_APPS=["altdispatch"]):
        call_command("altdispatch")
        assert capsys.readouterr().out == f"{altdispatch.status()}\n"


@pytest.mark.usefixtures("swapped")
def test_every_method_is_swapped():
    for name in METHODS:
        method = vars(django.dispatch.Signal)[name]
        assert "altdispatch" in method.__code__.co_filename
    for signal in (post_save, request_started, django.dispatch.Signal()):
        assert signal.send.__func__ is vars(django.dispatch.Signal)["send"]


def test_reloading_the_dispatcher(run_python):
    """The new class is another one, and isn't swapped until it's asked for."""
    output = run_python(
        """
        import importlib
        import altdispatch
        import django.dispatch.dispatcher as stock
        from django.dispatch import Signal

        def name(cls):
            return cls.send.__globals__["__name__"].split(".")[0]

        altdispatch.install()
        importlib.reload(stock)
        assert stock.Signal is not Signal
        print(name(Signal), name(stock.Signal))
        print(altdispatch.is_installed(), altdispatch.status().installed)
        print(altdispatch.install(), name(Signal), name(stock.Signal))
        print(altdispatch.status().installed, bool(altdispatch.status().swapped))
        print(altdispatch.uninstall(), name(Signal), name(stock.Signal))
        print(altdispatch.status().installed, altdispatch.uninstall())
        altdispatch.install()
        importlib.reload(stock)
        print(altdispatch.uninstall(), name(Signal), name(stock.Signal))
        """
    )
    assert output.splitlines() == [
        "altdispatch django",
        "False False",
        "True altdispatch altdispatch",
        "True True",
        "True django django",
        "False False",
        "True django django",
    ]


def test_check_where_django_has_no_source(run_python):
    output = run_python(
        """
        import inspect
        import django
        from django.conf import settings

        def getsource(object):
            raise OSError("could not get source code")

        inspect.getsource = getsource
        settings.configure(INSTALLED_APPS=["altdispatch"])
        django.setup()
        from django.core.checks import run_checks

        (warning,) = run_checks()
        print(warning.id, warning.msg, warning.hint)
        """
    )
    assert output.startswith("altdispatch.W001 altdispatch has swapped nothing: Django")
    assert "source files are missing" in output
    assert django.get_version() not in output
