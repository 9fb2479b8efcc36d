"""What a program may do to a signal while the dispatcher is using it.

Each of these once crashed, blocked or gave a wrong answer. The generated ones are in
``tests/test_hostile.py``.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import types
import uuid
import weakref
from dataclasses import dataclass
from unittest import mock

import pytest

import altdispatch

from ..implementations import COUNTS_REFERENCES

needs_counts = pytest.mark.skipif(
    not COUNTS_REFERENCES, reason="PyPy runs finalizers at a time of its own"
)
CACHING = pytest.mark.parametrize("caching", [False, True], ids=["plain", "caching"])


class Sender:
    pass


def print_nothing(**kwargs):
    return "nothing"


def answers(signal, sender=Sender, how="send"):
    return [answer for _, answer in getattr(signal, how)(sender)]


def in_time(scenario):
    """Return what a scenario returns; fail if it's blocked."""

    def run(*args):
        def work():
            results.append(scenario(*args))

        results = []
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), "blocked"
        return results[0]

    return run


# Finalizers that use the signal.


@needs_counts
@CACHING
@pytest.mark.parametrize("count", [0, 100], ids=["short", "long"])
@pytest.mark.parametrize("searched", [0, 20], ids=["scanned", "indexed"])
def test_finalizer_of_what_is_disconnected(assert_same, caching, count, searched):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        others = [lambda **kwargs: "other" for _ in range(count)]
        for other in others:
            signal.connect(other, sender=Signal)
        seen = []

        class Listener:
            def __init__(self):
                signal.connect(self.on, weak=False, dispatch_uid="u")

            def on(self, **kwargs):
                return "listener"

            def __del__(self):
                seen.append(signal.has_listeners(int))
                seen.append(signal.disconnect(dispatch_uid="u"))

        Listener()
        for _ in range(searched):
            signal.disconnect(dispatch_uid="nobody's")
        seen.append(answers(signal))
        seen.append(signal.disconnect(dispatch_uid="u"))
        return seen

    assert assert_same(in_time(scenario)) == [["listener"], False, False, True]


@needs_counts
@CACHING
def test_finalizer_of_what_a_program_removes(assert_same, caching):
    """By a method of list's own, behind the back of a list with an index."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        others = [lambda **kwargs: "other" for _ in range(100)]
        seen = []

        class Listener:
            def __call__(self, **kwargs):
                return "listener"

            def __del__(self):
                seen.append(signal.has_listeners(int))

        signal.connect(Listener(), weak=False)
        for other in others:
            signal.connect(other, sender=Signal)
        signal.send(Sender)
        signal.sender_receivers_cache.clear()
        list.pop(signal.receivers, 0)
        seen.append("removed")
        signal.connect(print)
        return [*seen, len(signal.receivers)]

    assert assert_same(in_time(scenario)) == [False, "removed", 101]


# Receivers that look like references, and references that aren't plain.


class Receiver:
    def __call__(self, **kwargs):
        return "called"

    def method(self, **kwargs):
        return "method"


class CountingRef(weakref.ref):
    calls = 0

    def __call__(self):
        type(self).calls += 1
        return super().__call__()


class CountingMethod(weakref.WeakMethod):
    calls = 0

    def __call__(self):
        type(self).calls += 1
        return super().__call__()


class Pretender:
    __class__ = weakref.ref

    def __call__(self, **kwargs):
        return (lambda **kwargs: "referent") if not kwargs else "called"


def mock_receiver(kept):
    return mock.Mock(return_value="mock", __qualname__="mock")


def mock_reference(kept):
    return mock.Mock(spec=weakref.ref, return_value=lambda **kwargs: "referent")


def wrapped(kept):
    wrapt = pytest.importorskip("wrapt")
    return wrapt.ObjectProxy(kept)


def wrapped_reference(kept):
    wrapt = pytest.importorskip("wrapt")
    return wrapt.ObjectProxy(weakref.ref(kept))


class Answering:
    """Answers to every name."""

    def __init__(self, kept):
        pass

    def __getattr__(self, name):
        return name

    def __call__(self, **kwargs):
        return "answer"


KINDS = [
    Answering,
    weakref.proxy,
    weakref.ref,
    CountingRef,
    lambda kept: CountingMethod(kept.method),
    lambda kept: weakref.WeakMethod(kept.method),
    lambda kept: Pretender(),
    mock_receiver,
    mock_reference,
    wrapped,
    wrapped_reference,
    lambda kept: type(kept),
]


@CACHING
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["send", "send_robust"])
def test_strong_receiver_of_any_type(assert_same, caching, kind, how):
    def scenario(Signal):
        CountingRef.calls = CountingMethod.calls = 0
        kept = Receiver()
        signal = Signal(use_caching=caching)
        signal.connect(kind(kept), sender=Sender, weak=False)
        seen = []
        for _ in range(3):
            try:
                seen.append([str(answer) for answer in answers(signal, how=how)])
            except TypeError as error:
                seen.append(str(error))
            seen.append(signal.has_listeners(Sender))
            seen.append(len(signal._live_receivers(Sender)[0]))
        return seen, CountingRef.calls, CountingMethod.calls

    assert_same(scenario)


# Keys and names with an equality of their own.


@CACHING
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
def test_equality_that_empties_everything(assert_same, caching, how):
    """Another sender, with the hash of the one that sends, is compared with it."""

    def scenario(Signal):
        class Same(type):
            def __hash__(self):
                return hash(Sender)

            def __eq__(self, other):
                if armed:
                    signal.receivers = []
                    signal.sender_receivers_cache.clear()
                    gc.collect()
                return NotImplemented

        armed = False
        Other = Same("Other", (), {})
        signal = Signal(use_caching=caching)
        for number in range(5):
            signal.connect(
                lambda number=number, **kwargs: number, weak=False, dispatch_uid=number
            )
        signal.send(Other)
        signal.send(Sender)
        armed = True
        first = getattr(signal, how)(Sender)
        armed = False
        count = first if isinstance(first, bool) else len(first)
        return count, len(signal.receivers)

    assert_same(scenario)


class Name:
    """A name that is no string, and equal to one."""

    def __init__(self, text, effect):
        self.text = text
        self.effect = effect

    def __hash__(self):
        return hash(self.text)

    def __eq__(self, other):
        self.effect(other)
        return False


@CACHING
@pytest.mark.parametrize("text", ["receivers", "lock", "_live_receivers", "_dead"])
def test_names_of_attributes_that_are_no_strings(assert_same, caching, text):
    def scenario(Signal):
        def effect(other):
            if other == "receivers" and armed:
                armed.clear()
                vars(signal)["receivers"] = [*vars(signal)["receivers"]]
                gc.collect()

        armed = []
        signal = Signal(use_caching=caching)
        signal.connect(Receiver(), weak=False)
        held = dict(vars(signal))
        vars(signal).clear()
        vars(signal)[Name(text, effect)] = None
        vars(signal).update(held)
        seen = []
        for _ in range(3):
            armed.append(1)
            seen.append((answers(signal), signal.has_listeners(Sender)))
        return seen

    assert assert_same(scenario) == [(["called"], True)] * 3


@CACHING
def test_method_by_a_name_that_is_not_interned(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(Receiver(), weak=False)
        signal.send(Sender)
        name = "".join(["_live_", "receivers"])
        vars(signal)[name] = lambda sender: ([lambda **kwargs: "patched"], [])
        return answers(signal), answers(signal)

    assert assert_same(scenario) == (["patched"], ["patched"])


@CACHING
@pytest.mark.parametrize("count", [5, 100])
@pytest.mark.parametrize("what", ["raises", "equals"])
def test_dispatch_uid_that_gets_an_equality_later(assert_same, caching, count, what):
    def scenario(Signal):
        class Uid:
            pass

        def compare(self, other):
            if what == "raises":
                raise KeyError("no")
            return True

        signal = Signal(use_caching=caching)
        for number in range(count):
            signal.connect(Receiver(), weak=False, dispatch_uid=f"uid {number}")
        signal.connect(Receiver(), weak=False, dispatch_uid=Uid())
        for _ in range(20):
            signal.send(Sender)
            signal.disconnect(dispatch_uid="nobody's")
        Uid.__eq__ = compare
        Uid.__hash__ = lambda self: hash("uid 3")
        seen = []
        for uid in ("uid 3", "another", Uid()):
            try:
                seen.append(signal.disconnect(dispatch_uid=uid))
                seen.append(signal.connect(Receiver(), weak=False, dispatch_uid=uid))
            except KeyError as error:
                seen.append(str(error))
            seen.append((len(signal.receivers), len(signal.send(Sender))))
        return seen

    assert_same(scenario)


@CACHING
@pytest.mark.parametrize(
    "uid",
    [uuid.UUID(int=5), float("nan"), 2.5, b"bytes", ("a", 1), (1, ("nested",)), True],
    ids=repr,
)
def test_dispatch_uids_of_many_types(assert_same, caching, uid):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receivers = [lambda number=number, **kwargs: number for number in range(100)]
        for receiver in receivers:
            signal.connect(receiver)
        seen = []
        for _ in range(30):
            for _ in range(2):
                signal.connect(receivers[0], dispatch_uid=uid)
            seen.append(answers(signal))
            seen.append(signal.disconnect(dispatch_uid=uid))
            seen.append(signal.disconnect(dispatch_uid=uid))
            signal.connect(receivers[5], dispatch_uid="other")
            seen.append(signal.disconnect(receivers[5]))
            signal.connect(receivers[5])
            signal.disconnect(dispatch_uid="other")
            seen.append(answers(signal))
        return seen

    assert_same(scenario)


@needs_counts
@CACHING
def test_shared_list_that_a_finalizer_changes_while_it_is_read(assert_same, caching):
    def scenario(Signal):
        first, second = Signal(use_caching=caching), Signal(use_caching=caching)

        class Garbage:
            def __init__(self, receiver):
                self.receiver = receiver
                self.itself = self

            def __del__(self):
                first.disconnect(self.receiver)

        holders = [Receiver() for _ in range(40)]
        for holder in holders:
            first.connect(holder.method)
        second.receivers = first.receivers
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for holder in holders[::2]:
                Garbage(holder.method)
                second.send(Sender)
                second.sender_receivers_cache.clear()
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        second.sender_receivers_cache.clear()
        return len(second.receivers), len(second.send(Sender))

    assert assert_same(scenario) == (20, 20)


@needs_counts
@CACHING
@pytest.mark.parametrize("use", ["send", "connect", "disconnect"])
def test_list_that_a_finalizer_cuts_while_it_is_indexed(assert_same, caching, use):
    """It's indexed when it has been scanned 16 times: by the next use."""

    def scenario(Signal):
        class Garbage:
            def __init__(self, signal):
                self.itself, self.signal = self, signal

            def __del__(self):
                del self.signal.receivers[10:]

        def receiver(**kwargs):
            return "answer"

        senders = [type("Sender", (), {}) for _ in range(50)]
        seen = set()
        # What is there already isn't looked through each time.
        gc.collect()
        gc.freeze()
        for objects in range(1, 700, 20):
            signal = Signal(use_caching=caching)
            for number in range(600):
                signal.connect(receiver, senders[number % 50], dispatch_uid=number)
            for _ in range(16):
                signal.disconnect(dispatch_uid="none")
            gc.collect()
            threshold = gc.get_threshold()
            gc.disable()
            Garbage(signal)
            gc.set_threshold(objects, 1, 1)
            gc.enable()
            try:
                if use == "send":
                    signal.send(senders[0])
                elif use == "disconnect":
                    signal.disconnect(dispatch_uid=5, sender=senders[5])
                else:
                    signal.connect(receiver, senders[0], dispatch_uid="new")
                    seen.add(signal.disconnect(dispatch_uid="new", sender=senders[0]))
            finally:
                gc.set_threshold(*threshold)
        gc.unfreeze()
        return seen

    assert assert_same(scenario) == ({True} if use == "connect" else set())


@CACHING
def test_class_that_has_been_changed_a_thousand_times(assert_same, caching):
    """CPython stops to number its states."""

    def scenario(Signal):
        cls = type("Subclass", (Signal,), {})
        for number in range(3000):
            cls.number = number
            cls().has_listeners()
        signal = cls(use_caching=caching)
        seen = [signal.send(Sender)]
        signal.connect(len, weak=False)
        seen.append([str(error) for _, error in signal.send_robust(Sender)])
        cls._live_receivers = lambda self, sender: ([str], [])
        seen.append(signal.send_robust(Sender)[0][0])
        return seen

    logging.disable()
    try:
        assert assert_same(scenario)[2] is str
    finally:
        logging.disable(logging.NOTSET)


# The exception that is handled.


@CACHING
def test_error_that_has_no_attributes_set(assert_same, caching):
    def scenario(Signal):
        @dataclass(frozen=True)
        class Frozen(Exception):
            code: int

        class Lying(Exception):
            __traceback__ = __context__ = "mine"

        def fails(code, **kwargs):
            raise (Frozen if code else Lying)(code)

        signal = Signal(use_caching=caching)
        signal.connect(fails)
        signal.connect(print_nothing)
        seen = []
        # On PyPy, an attribute of the class is what its error has.
        for code in (0, 1) if COUNTS_REFERENCES else (1,):
            [(_, error), (_, answer)] = signal.send_robust(Sender, code=code)
            traceback = vars(BaseException)["__traceback__"].__get__(error)
            context = vars(BaseException)["__context__"].__get__(error)
            while traceback.tb_next is not None:
                traceback = traceback.tb_next
            seen.append((repr(error), answer, context))
            seen.append(traceback.tb_frame.f_code.co_name)
        return seen

    logging.disable()
    try:
        assert assert_same(scenario)[1] == "fails"
    finally:
        logging.disable(logging.NOTSET)


@CACHING
def test_exception_that_a_generator_handles_too(assert_same, caching):
    def scenario(Signal):
        def fails(**kwargs):
            raise ValueError("receiver")

        signal = Signal(use_caching=caching)
        signal.connect(fails)

        def generator():
            try:
                yield
            except KeyError:
                signal.send_robust(Sender)
                seen.append(repr(sys.exception()))
                yield
                seen.append(repr(sys.exception()))
                raise

        seen = []
        running = generator()
        next(running)
        try:
            raise KeyError("e")
        except KeyError as error:
            running.throw(error)
        try:
            next(running)
        except BaseException as error:
            seen.append(repr(error))
        return seen

    assert assert_same(scenario) == ["KeyError('e')"] * 3


@CACHING
@pytest.mark.parametrize("handling", [False, True])
def test_error_that_is_logged_is_as_it_was(assert_same, caching, handling, caplog):
    def scenario(Signal):
        class Logging(Signal):
            def _log_robust_failure(self, receiver, err):
                seen.append((sys.exception() is err, repr(err.__context__)))

        def fails(**kwargs):
            raise ValueError("receiver")

        seen = []
        signal = Logging(use_caching=caching)
        signal.connect(fails)

        def send():
            [(_, error)] = signal.send_robust(Sender)
            seen.append(repr(error.__context__))
            traceback = error.__traceback__
            while traceback.tb_next is not None:
                traceback = traceback.tb_next
            seen.append(traceback.tb_frame.f_code.co_name)
            seen.append(repr(sys.exception()))

        if handling:
            try:
                raise KeyError("outer")
            except KeyError:
                send()
        else:
            send()
        return seen

    assert assert_same(scenario)[0][0] is True


# Senders that are asked.


class Stubborn:
    asked = 0

    def __getattr__(self, name):
        if name == "__func__":
            type(self).asked += 1
            raise ZeroDivisionError(name)
        raise AttributeError(name)


class StubbornProperty:
    asked = 0

    @property
    def __func__(self):
        type(self).asked += 1
        raise ZeroDivisionError


class StubbornClass(type):
    asked = 0

    def __getattr__(cls, name):
        if name == "__func__":
            StubbornClass.asked += 1
            raise ZeroDivisionError(name)
        raise AttributeError(name)


class OfStubbornClass(metaclass=StubbornClass):
    pass


class HasFunction:
    asked = 0
    __func__ = len

    def __init__(self):
        self.__self__ = self


@CACHING
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (Stubborn, Stubborn),
        (StubbornProperty, StubbornProperty),
        (StubbornClass, lambda: OfStubbornClass),
        (HasFunction, HasFunction),
    ],
)
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_sender_is_asked_for_its_function(assert_same, caching, kind, make, how, count):
    def scenario(Signal):
        kind.asked = 0
        signal = Signal(use_caching=caching)
        receivers = [lambda **kwargs: "called" for _ in range(count)]
        for receiver in receivers:
            signal.connect(receiver)
        sender = make()
        seen = []
        for _ in range(3):
            try:
                seen.append(str(getattr(signal, how)(sender))[:10])
            except ZeroDivisionError as error:
                seen.append(str(error))
            seen.append((kind.asked, signal.lock.locked()))
        return seen

    assert_same(scenario)


@CACHING
@pytest.mark.parametrize("name", [None, "__getattr__", "__func__"])
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
def test_module_as_sender(assert_same, caching, name, how):
    def scenario(Signal):
        asked = []
        sender = types.ModuleType("sender")
        if name is not None:
            setattr(sender, name, asked.append)
        signal = Signal(use_caching=caching)
        signal.connect(Receiver(), weak=False)
        signal.connect(Receiver(), sender=sender, weak=False)
        seen = []
        for _ in range(3):
            try:
                seen.append(str(getattr(signal, how)(sender))[:5])
            except AttributeError as error:
                seen.append(str(error))
            seen.append(list(asked))
        return seen

    assert_same(scenario)


@CACHING
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
@pytest.mark.parametrize("method", ["__hash__", "__eq__"])
@pytest.mark.parametrize(
    "effect", ["connect", "disconnect", "replace", "empty", "patch", "raise", "clear"]
)
def test_sender_that_changes_the_signal_when_looked_up(
    assert_same, caching, how, method, effect
):
    """Before its receivers are looked for, or meanwhile."""

    def scenario(Signal):
        class Changing:
            def __hash__(self):
                act("__hash__")
                return 1

            def __eq__(self, other):
                act("__eq__")
                return self is other

        def act(name):
            if armed and name == method:
                armed.clear()
                change()

        def change():
            if effect == "connect":
                signal.connect(last, sender=sender)
            elif effect == "disconnect":
                signal.disconnect(first)
            elif effect == "replace":
                signal.receivers = signal.receivers[:1]
            elif effect == "empty":
                signal.receivers = []
            elif effect == "patch":
                signal._live_receivers = lambda sender: ([last], [])
            elif effect == "raise":
                raise ZeroDivisionError(method)
            else:
                signal.sender_receivers_cache.clear()

        def first(**kwargs):
            return "first"

        def second(**kwargs):
            return "second"

        def last(**kwargs):
            return "last"

        armed = []
        sender = Changing()
        signal = Signal(use_caching=caching)
        signal.connect(first)
        signal.connect(second, sender=sender)
        seen = []
        for number in range(4):
            if number in (0, 2):
                armed.append(1)
            try:
                found = getattr(signal, how)(sender)
            except ZeroDivisionError as error:
                found = str(error)
            # The receivers differ between the runs, but not their names.
            if isinstance(found, list):
                found = [answer for _, answer in found]
            seen.append((found, len(armed)))
        return seen

    assert_same(scenario)


# Methods with other code.


@pytest.mark.parametrize("name", ["send", "send_robust", "has_listeners"])
def test_code_that_is_assigned(assert_same_swapped, name):
    import django.dispatch

    def other(self, sender=None, **named):
        return "other code"

    def scenario():
        signal = django.dispatch.Signal()
        signal.connect(Receiver(), weak=False)
        method = getattr(django.dispatch.Signal, name)
        code, defaults = method.__code__, method.__defaults__
        seen = [bool(getattr(signal, name)(Sender))]
        method.__code__ = other.__code__
        try:
            seen.append(getattr(signal, name)(Sender))
        finally:
            method.__code__, method.__defaults__ = code, defaults
        return [*seen, bool(getattr(signal, name)(Sender))]

    assert assert_same_swapped(scenario) == [True, "other code", True]


def test_default_that_is_assigned(assert_same_swapped):
    import django.dispatch

    def scenario():
        signal = django.dispatch.Signal()
        signal.connect(Receiver(), sender=Sender, weak=False)
        method = django.dispatch.Signal.has_listeners
        seen = [signal.has_listeners()]
        method.__defaults__ = (Sender,)
        try:
            seen.append(signal.has_listeners())
        finally:
            method.__defaults__ = (None,)
        return seen

    assert assert_same_swapped(scenario) == [False, True]


# Small stacks.

RECURSION = """
import sys, threading
import django
from django.conf import settings
settings.configure(DATABASES={{}}, DEFAULT_AUTO_FIELD="django.db.models.AutoField")
django.setup()
from django.db import models
from django.db.models.signals import post_init
from django.dispatch import Signal
import altdispatch

altdispatch.install()
signal = Signal(use_caching={caching})
levels = [0]

class Book(models.Model):
    class Meta:
        app_label = "books"

def receive(**kwargs):
    levels[0] += 1
    {again}

def start():
    try:
        {begin}
    except RecursionError:
        outcomes.append("RecursionError")

outcomes = []
signal.connect(receive)
if {limit}:
    sys.setrecursionlimit({limit})
if {kib}:
    threading.stack_size({kib} * 1024)
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    start()
print(*outcomes, levels[0] > 10)
"""

WAYS = {
    "send": ("signal.send(Book)", "signal.send(Book)"),
    "robust": ("signal.send_robust(Book)[0][1]", "signal.send_robust(Book)"),
    "not plain": ("signal.send(1.5)", "signal.send(1.5)"),
    "instances": ("Book()", "post_init.connect(receive); Book()"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="its stacks have other sizes")
@pytest.mark.parametrize("kib", [128, 256, 512, 768, 2048])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="PyPy crashes there with stock, too"
)
def test_small_stacks(run_python, implementation, way, kib):
    """The recursion ends by itself, after as many levels as there is room for."""
    if implementation == "python" and kib < (512 if way == "instances" else 256):
        pytest.skip("Python and Django crash, too")
    again, begin = WAYS[way]
    program = RECURSION.format(
        again=again, begin=begin, kib=kib, limit=0, caching=way == "send"
    )
    output = run_python(program)
    assert output in ("RecursionError True\n", "True\n")


@pytest.mark.parametrize("way", ["send", "robust", "not plain"])
def test_raised_recursion_limit(run_python, implementation, way):
    again, begin = WAYS[way]
    program = RECURSION.format(again=again, begin=begin, kib=0, limit=20_000, caching=0)
    assert run_python(program) in ("RecursionError True\n", "True\n")


@pytest.mark.skipif(
    altdispatch.implementations.in_use.name != "c", reason="about the extension"
)
def test_compiling_twice(run_python):
    output = run_python(
        """
        import altdispatch
        from altdispatch import _speedups, dispatcher

        for name in ("send", "send_robust", "has_listeners", "_live_receivers"):
            function = getattr(dispatcher.Signal, name)
            for _ in range(3):
                method = _speedups.compile(function)
                setattr(dispatcher.Signal, name, method)
        signal = dispatcher.Signal()
        signal.connect(lambda **kwargs: "answer", weak=False)
        print(signal.send(1.5)[0][1], signal.send(object)[0][1])
        print(signal.send_robust(1.5)[0][1], signal.has_listeners(1.5))
        """
    )
    assert output == "answer answer\nanswer True\n"
