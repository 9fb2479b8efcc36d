"""Patch ``_live_receivers``, as monitoring agents do.

Every other part of a send stays as fast.
"""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from contextlib import contextmanager
from unittest import mock

import django.dispatch
import pytest
from django.db.models.signals import ModelSignal
from django.dispatch import dispatcher

import altdispatch

METHODS = ["send", "send_robust", "has_listeners"]
STOCK_LIVE_RECEIVERS = django.dispatch.Signal._live_receivers


class Sender:
    pass


class Other:
    pass


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def caching(request):
    return request.param


@pytest.fixture(params=["class", "instance"])
def where(request):
    return request.param


@pytest.fixture(params=METHODS)
def how(request):
    return request.param


def one(**kwargs):
    return "one"


def two(**kwargs):
    return "two"


def fails(**kwargs):
    raise ValueError("this")


async def asynchronous(**kwargs):
    return "asynchronous"


def call_method(signal, how, sender=Sender, **named):
    """Call a method and return its result, or its error, as plain values."""
    try:
        outcome = getattr(signal, how)(sender, **named)
    except Exception as error:
        return type(error), str(error)
    if how == "has_listeners":
        return outcome
    return [(receiver, repr(response)) for receiver, response in outcome]


def make_signal_and_target(Signal, caching, where):
    """Return a signal with two receivers, and the object to patch."""
    cls = type("Subclass", (Signal,), {})
    signal = cls(use_caching=caching)
    signal.connect(one, sender=Sender)
    signal.connect(two)
    return signal, signal if where == "instance" else cls


@contextmanager
def patched(target, function):
    """Patch ``_live_receivers`` with ``function(original, sender)``."""
    original = target._live_receivers
    if isinstance(target, type):

        def replacement(self, sender):
            return function(lambda sender: original(self, sender), sender)

    else:

        def replacement(sender):
            return function(original, sender)

    with mock.patch.object(target, "_live_receivers", replacement):
        yield


# Return values of a patch.


class MyList(list):
    pass


class Falsy(list):
    def __bool__(self):
        return False


class FailingBool(list):
    def __bool__(self):
        raise ValueError("no truth value")


def wrap_in_place(original, sender):
    found = original(sender)
    for at, receiver in enumerate(found[0]):
        found[0][at] = lambda receiver=receiver, **kwargs: f"<{receiver(**kwargs)}>"
    return found


RETURNS = {
    "unchanged": lambda original, sender: original(sender),
    "other receivers": lambda original, sender: ([fails, one], []),
    "no receivers": lambda original, sender: ([], []),
    "sync and async": lambda original, sender: ([two], [asynchronous, asynchronous]),
    "only asynchronous": lambda original, sender: ([], [asynchronous]),
    "failing and async": lambda original, sender: ([fails], [asynchronous]),
    "a list": lambda original, sender: list(original(sender)),
    "tuples": lambda original, sender: tuple(map(tuple, original(sender))),
    "iterators": lambda original, sender: tuple(map(iter, original(sender))),
    "subclass of list": lambda original, sender: (MyList([one]), MyList([])),
    "falsy lists": lambda original, sender: (Falsy([one]), Falsy([asynchronous])),
    "failing bool": lambda original, sender: ([one], FailingBool([])),
    "a dict": lambda original, sender: {"": 1, "x": 2},
    "sync only": lambda original, sender: original(sender)[0],
    "three": lambda original, sender: (*original(sender), []),
    "None": lambda original, sender: None,
    "pair of None": lambda original, sender: (None, None),
    "a number for async": lambda original, sender: ([one], 5),
    "not callable": lambda original, sender: ([one, None], []),
    "number as sync": lambda original, sender: ([5], [asynchronous]),
    "an error": lambda original, sender: fails(),
}


@pytest.mark.parametrize(
    "function", [*RETURNS.values(), wrap_in_place], ids=[*RETURNS, "wrap in place"]
)
def test_return_value(assert_same, caching, where, how, function):
    def scenario(Signal):
        signal, target = make_signal_and_target(Signal, caching, where)
        seen = [call_method(signal, how)]
        with patched(target, function):
            seen += [describe(call_method(signal, how)) for _ in range(2)]
        return *seen, call_method(signal, how)

    def describe(outcome):
        if isinstance(outcome, list):
            return [(getattr(r, "__name__", r), response) for r, response in outcome]
        return outcome

    assert assert_same(scenario)


@pytest.mark.parametrize("how", ["send", "send_robust"])
def test_receivers_edit_the_returned_lists(assert_same, caching, where, how):
    """A receiver that is added to the returned lists is called in the same send."""

    def scenario(Signal):
        signal, target = make_signal_and_target(Signal, caching, where)
        returned = []

        def adds(**kwargs):
            returned[0].append(two)
            returned[1].append(asynchronous)

        def look_up(original, sender):
            returned[:] = [adds], []
            return returned[0], returned[1]

        with patched(target, look_up):
            names = [r.__name__ for r, _ in getattr(signal, how)(Sender)]
        return names, [type(each) for each in returned[0]]

    assert assert_same(scenario)[0] == ["adds", "two", "asynchronous"]


@pytest.mark.parametrize("how", ["send", "send_robust"])
def test_returned_lists_are_not_changed(assert_same, caching, where, how):
    def scenario(Signal):
        signal, target = make_signal_and_target(Signal, caching, where)
        returned = [one, two], []
        with patched(target, lambda original, sender: returned):
            outcomes = [call_method(signal, how) for _ in range(2)]
        return outcomes, returned

    assert assert_same(scenario)[1] == ([one, two], [])


# When a patch is called, and with what.


def test_when_a_patch_is_called(assert_same, caching, where, how):
    """It isn't called for an empty signal, or for a sender cached as having no
    receivers.
    """

    def scenario(Signal):
        cls = type("Subclass", (Signal,), {})
        signal = cls(use_caching=caching)
        target = signal if where == "instance" else cls
        senders_seen = []

        def count(original, sender):
            senders_seen.append(sender)
            return original(sender)

        def use_with(*senders):
            for sender in senders:
                call_method(signal, how, sender)
            senders_seen.append("next")

        with patched(target, count):
            use_with(Sender, None, "text", 5)
            signal.connect(one, sender=Sender)
            use_with(Sender, Sender, Other, Other, None, "text", 5, [])
            signal.sender_receivers_cache[Other] = []
            use_with(Other)
            signal.sender_receivers_cache[Other] = dispatcher.NO_RECEIVERS
            use_with(Other)
            signal._dead_receivers = True
            use_with(Sender, Other)
            signal.receivers = tuple(signal.receivers)
            use_with(Sender)
            signal.receivers = []
            use_with(Sender)
        use_with(Sender)
        return senders_seen

    assert Sender in assert_same(scenario)


def test_patch_found_by_attribute_access(assert_same, caching, how):
    """The patch may be a descriptor, a property, an object or an instance attribute."""

    class NonDataDescriptor:
        def __get__(self, instance, owner):
            return lambda sender: ([lambda **kwargs: "descriptor"], [])

    class DataDescriptor(NonDataDescriptor):
        def __set__(self, instance, value):
            raise AttributeError

    def scenario(Signal):
        seen = []
        for value in [
            NonDataDescriptor(),
            DataDescriptor(),
            property(lambda self: lambda sender: ([one], [])),
            staticmethod(lambda sender: ([two], [])),
            classmethod(lambda cls, sender: ([cls.receive], [])),
            mock.Mock(return_value=([one], [])),
            None,
        ]:
            attributes = {"_live_receivers": value, "receive": staticmethod(one)}
            cls = type("Subclass", (Signal,), attributes)
            signal = cls(use_caching=caching)
            signal.connect(one)
            vars(signal)["_live_receivers"] = lambda sender: ([two], [])
            seen.append(describe(call_method(signal, how)))
            del vars(signal)["_live_receivers"]
            seen.append(describe(call_method(signal, how)))
        return seen

    def describe(outcome):
        if isinstance(outcome, list):
            return [response for _, response in outcome]
        return outcome

    assert assert_same(scenario)


def test_arguments_of_the_receivers(assert_same, caching, where):
    def scenario(Signal):
        signal, target = make_signal_and_target(Signal, caching, where)
        seen = []

        def record(**kwargs):
            seen.append((list(kwargs), kwargs["signal"] is signal, kwargs["sender"]))

        def call(*args, **kwargs):
            for send in (signal.send, signal.send_robust):
                try:
                    send(*args, **kwargs)
                except TypeError as error:
                    seen.append(str(error))

        async def record_async(**kwargs):
            record(**kwargs)

        for found in (
            ([record], []),
            ([record], [record_async]),
            ((record,), (record_async,)),
        ):
            with patched(target, lambda *args, found=found: found):
                call(Sender, b=1, a=2)
                call(sender=Sender, b=1, a=2)
                call(b=1, sender=Sender)
                call(Sender, signal=5)
                call(Sender, **{"".join(["a", "b"]): 1})
                call()
                call(Sender, sender=Sender)
                call(Sender, Sender)
        return seen

    assert assert_same(scenario)


def test_changes_in_a_patch_affect_the_next_send(assert_same, caching, where, how):
    def scenario(Signal):
        signal, target = make_signal_and_target(Signal, caching, where)
        seen = []

        others = [lambda **kwargs: "three"]

        def change(original, sender):
            found = original(sender)
            if not seen:
                seen.append("changed")
                signal.disconnect(one, sender=Sender)
                signal.connect(others[0])
                seen.append(call_method(signal, how))
            return found

        with patched(target, change):
            seen += [call_method(signal, how), call_method(signal, how)]
        seen = [describe(each) for each in seen]
        others.clear()
        gc.collect()
        return seen, call_method(signal, how)

    def describe(outcome):
        if isinstance(outcome, list):
            return [response for _, response in outcome]
        return outcome

    assert assert_same(scenario)


def test_patch_that_removes_itself(assert_same, caching, where, how):
    def scenario(Signal):
        signal, target = make_signal_and_target(Signal, caching, where)
        original = target._live_receivers

        def once(*args):
            if where == "instance":
                del signal._live_receivers
            else:
                del target._live_receivers
            return [two], []

        seen = []
        for _ in range(3):
            target._live_receivers = once
            seen += [call_method(signal, how), call_method(signal, how)]
        return seen, target._live_receivers == original

    assert assert_same(scenario)[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exceptions(assert_same, caching, where, how, error):
    def scenario(Signal):
        signal, target = make_signal_and_target(Signal, caching, where)

        def stop(*args, **kwargs):
            raise error

        seen = []
        for function in (stop, lambda *args: ([stop], [])):
            with patched(target, function):
                try:
                    seen.append(call_method(signal, how))
                except error:
                    seen.append("stopped")
        return seen

    assert assert_same(scenario)[0] == "stopped"


def test_send_in_the_patch_ends_in_a_recursion_error(assert_same, caching, where, how):
    def scenario(Signal):
        signal, target = make_signal_and_target(Signal, caching, where)

        def again(original, sender):
            return getattr(signal, how)(sender)

        with patched(target, again), pytest.raises(RecursionError):
            getattr(signal, how)(Sender)
        return call_method(signal, how)

    assert assert_same(scenario)


# Agents that keep Django's own function and call it.


@contextmanager
def agent(when):
    """Patch Django's class as an agent does, before or after the swap."""
    if when == "after":
        altdispatch.install()
    original = django.dispatch.Signal._live_receivers

    def wrapper(self, sender):
        return original(self, sender)

    with mock.patch.object(django.dispatch.Signal, "_live_receivers", wrapper):
        altdispatch.install()
        try:
            yield original
        finally:
            if when == "before":
                altdispatch.uninstall()
    altdispatch.uninstall()


@pytest.fixture
def clean(implementation):
    yield
    altdispatch.uninstall()


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("make_signal", [django.dispatch.Signal, ModelSignal])
def test_functions_that_run_under_an_agent(
    implementation, caching, how, when, make_signal
):
    """Only the agent's wrapper runs in Python: the rest of a send stays compiled."""
    signal = make_signal(use_caching=caching)
    with agent(when):
        signal.connect(one, sender=Sender)
        call_method(signal, how)
        called = set()

        def profile(frame, event, argument):
            if event == "call":
                called.add(frame.f_code.co_qualname.rpartition(".")[2])

        sys.setprofile(profile)
        outcome = getattr(signal, how)(Sender)
        sys.setprofile(None)
        assert outcome == (how == "has_listeners" or [(one, "one")])
    called -= {"one"}
    if implementation == "python":
        assert called >= {how, "_live_receivers"}
    elif when == "before" and sys.version_info < (3, 12):
        assert called >= {"wrapper", "_live_receivers"}
    else:
        assert called == {"wrapper"}


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("when", ["before", "after"])
def test_same_under_an_agent(implementation, caching, how, when):
    """An agent changes nothing, from the first send until after ``uninstall()``.

    The signal has dead receivers, a cache and an edited list.
    """

    def scenario():
        seen = []

        class Receiver:
            def method(self, **kwargs):
                return "method"

        signal = ModelSignal(use_caching=caching)
        receiver_object = Receiver()
        for receiver, sender in [
            (one, Sender),
            (two, None),
            (receiver_object.method, Sender),
        ]:
            seen.append(outcome(signal))
            signal.connect(receiver, sender=sender)
        signal.connect(asynchronous, sender=Other)
        seen += [outcome(signal), outcome(signal, Other), outcome(signal, None)]
        del receiver_object
        gc.collect()
        seen += [outcome(signal), len(signal.receivers)]
        signal.receivers.reverse()
        seen += [outcome(signal), outcome(signal, "text"), outcome(signal, [])]
        signal.disconnect(two)
        for _ in range(700):
            signal.connect(lambda **kwargs: "many", Other, weak=False)
        return [*seen, outcome(signal), outcome(signal, Other), outcome(signal, int)]

    def outcome(signal, sender=Sender):
        found = call_method(signal, how, sender)
        if isinstance(found, list):
            return [response for _, response in found]
        return found

    expected = scenario()
    with agent(when):
        assert scenario() == expected
    assert scenario() == expected


@pytest.mark.parametrize("kind", ["function", "equal"])
def test_patch_that_is_equal_to_the_method(assert_same_swapped, caching, kind):
    """wrapt's wrappers compare equal to what they wrap."""

    class EqualWrapper:
        def __init__(self, function):
            self.function = function

        def __get__(self, signal, cls):
            if signal is None:
                return self
            return functools.partial(self, signal)

        def __call__(self, *args):
            calls.append("called")
            return self.function(*args)

        def __eq__(self, other):
            return other == self.function

        def __hash__(self):
            return hash(self.function)

    def wrap(function):
        if kind == "equal":
            return EqualWrapper(function)
        return lambda *args: EqualWrapper(function)(*args)

    calls = []

    def scenario():
        calls.clear()
        signal = django.dispatch.Signal(use_caching=caching)
        signal.connect(one)
        original = django.dispatch.Signal._live_receivers
        with mock.patch.object(
            django.dispatch.Signal, "_live_receivers", wrap(original)
        ):
            seen = [signal.send(Sender), signal.send(Sender)]
            seen.append(signal.has_listeners(Sender))
        return seen, len(calls)

    assert assert_same_swapped(scenario)[1] == 3


@pytest.mark.usefixtures("clean")
def test_djangos_function_is_unchanged():
    """Its errors stay too, and so does what a program assigns to it."""
    signal = django.dispatch.Signal()
    signal.connect(one)

    def replacement(self, sender=None):
        return sender

    def describe():
        seen = [
            str(inspect.signature(STOCK_LIVE_RECEIVERS)),
            STOCK_LIVE_RECEIVERS.__code__.co_filename == dispatcher.__file__,
            vars(STOCK_LIVE_RECEIVERS),
        ]
        for args, kwargs in [
            ((), {}),
            ((signal,), {}),
            ((signal, Sender), {}),
            ((signal,), {"sender": Sender}),
            ((), {"self": signal, "sender": Sender}),
            ((signal, Sender, 1), {}),
            ((signal, Sender), {"sender": Sender}),
            ((5, Sender), {}),
            ((signal, []), {}),
        ]:
            try:
                seen.append(STOCK_LIVE_RECEIVERS(*args, **kwargs))
            except (TypeError, AttributeError) as error:
                seen.append((type(error), str(error)))
        return seen

    def describe_changed():
        code = STOCK_LIVE_RECEIVERS.__code__
        seen = [describe()]
        STOCK_LIVE_RECEIVERS.__defaults__ = (Sender,)
        seen.append(describe())
        STOCK_LIVE_RECEIVERS.__code__ = replacement.__code__
        seen += [STOCK_LIVE_RECEIVERS(signal), STOCK_LIVE_RECEIVERS(signal, 1)]
        STOCK_LIVE_RECEIVERS.__code__ = code
        STOCK_LIVE_RECEIVERS.__defaults__ = None
        return [*seen, describe()]

    expected = describe_changed()
    assert expected[0][5] == ([one], [])
    for kept in (True, False):
        with (
            mock.patch.object(django.dispatch.Signal, "_live_receivers", kept)
            if kept
            else mock.patch.object(signal, "_live_receivers", kept)
        ):
            altdispatch.install()
            assert describe_changed() == expected
            altdispatch.uninstall()
        assert describe_changed() == expected
    assert django.dispatch.Signal._live_receivers is STOCK_LIVE_RECEIVERS
