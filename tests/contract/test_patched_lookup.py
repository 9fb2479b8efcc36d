"""``_live_receivers`` replaced, as monitoring agents do: the rest stays as fast."""

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

USES = ["send", "send_robust", "has_listeners"]
DJANGOS = django.dispatch.Signal._live_receivers


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


@pytest.fixture(params=USES)
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


def use(signal, how, sender=Sender, **named):
    """Return what comes out, errors too, as plain values."""
    try:
        outcome = getattr(signal, how)(sender, **named)
    except Exception as error:
        return type(error), str(error)
    if how == "has_listeners":
        return outcome
    return [(receiver, repr(response)) for receiver, response in outcome]


def make(Signal, caching, where):
    """Return a signal with two receivers, and what the method is replaced on."""
    cls = type("Subclass", (Signal,), {})
    signal = cls(use_caching=caching)
    signal.connect(one, sender=Sender)
    signal.connect(two)
    return signal, signal if where == "instance" else cls


@contextmanager
def replaced(target, function):
    """Have ``function(original, sender)`` look up the receivers."""
    original = target._live_receivers
    if isinstance(target, type):

        def replacement(self, sender):
            return function(lambda sender: original(self, sender), sender)

    else:

        def replacement(sender):
            return function(original, sender)

    with mock.patch.object(target, "_live_receivers", replacement):
        yield


# What it returns.


class MyList(list):
    pass


class Falsy(list):
    def __bool__(self):
        return False


class Unclear(list):
    def __bool__(self):
        raise ValueError("neither")


def edit(original, sender):
    found = original(sender)
    for at, receiver in enumerate(found[0]):
        found[0][at] = lambda receiver=receiver, **kwargs: f"<{receiver(**kwargs)}>"
    return found


RETURNS = {
    "what it found": lambda original, sender: original(sender),
    "others": lambda original, sender: ([fails, one], []),
    "no receivers": lambda original, sender: ([], []),
    "asynchronous ones": lambda original, sender: ([two], [asynchronous, asynchronous]),
    "only asynchronous": lambda original, sender: ([], [asynchronous]),
    "a failing and async": lambda original, sender: ([fails], [asynchronous]),
    "a list": lambda original, sender: list(original(sender)),
    "tuples": lambda original, sender: tuple(map(tuple, original(sender))),
    "iterators": lambda original, sender: tuple(map(iter, original(sender))),
    "lists of its own": lambda original, sender: (MyList([one]), MyList([])),
    "a falsy list": lambda original, sender: (Falsy([one]), Falsy([asynchronous])),
    "an unclear list": lambda original, sender: ([one], Unclear([])),
    "a dict": lambda original, sender: {"": 1, "x": 2},
    "sync only": lambda original, sender: original(sender)[0],
    "three": lambda original, sender: (*original(sender), []),
    "None": lambda original, sender: None,
    "pair of None": lambda original, sender: (None, None),
    "a number for async": lambda original, sender: ([one], 5),
    "no callable": lambda original, sender: ([one, None], []),
    "a coroutine as sync": lambda original, sender: ([5], [asynchronous]),
    "an error": lambda original, sender: fails(),
}


@pytest.mark.parametrize("function", [*RETURNS.values(), edit], ids=[*RETURNS, "edit"])
def test_what_it_returns(assert_same, caching, where, how, function):
    def scenario(Signal):
        signal, target = make(Signal, caching, where)
        seen = [use(signal, how)]
        with replaced(target, function):
            seen += [describe(use(signal, how)) for _ in range(2)]
        return *seen, use(signal, how)

    def describe(outcome):
        if isinstance(outcome, list):
            return [(getattr(r, "__name__", r), response) for r, response in outcome]
        return outcome

    assert assert_same(scenario)


@pytest.mark.parametrize("how", ["send", "send_robust"])
def test_receivers_edit_what_it_returned(assert_same, caching, where, how):
    """What a receiver adds to the lists is called in the same send."""

    def scenario(Signal):
        signal, target = make(Signal, caching, where)
        kept = []

        def adds(**kwargs):
            kept[0].append(two)
            kept[1].append(asynchronous)

        def look_up(original, sender):
            kept[:] = [adds], []
            return kept[0], kept[1]

        with replaced(target, look_up):
            answer = [r.__name__ for r, _ in getattr(signal, how)(Sender)]
        return answer, [type(each) for each in kept[0]]

    assert assert_same(scenario)[0] == ["adds", "two", "asynchronous"]


@pytest.mark.parametrize("how", ["send", "send_robust"])
def test_list_that_is_kept_stays_the_agents(assert_same, caching, where, how):
    def scenario(Signal):
        signal, target = make(Signal, caching, where)
        kept = [one, two], []
        with replaced(target, lambda original, sender: kept):
            answers = [use(signal, how) for _ in range(2)]
        return answers, kept

    assert assert_same(scenario)[1] == ([one, two], [])


# When it runs, and what it's given.


def test_when_it_runs(assert_same, caching, where, how):
    """Not for an empty signal, nor for a sender that is known to have no receivers."""

    def scenario(Signal):
        cls = type("Subclass", (Signal,), {})
        signal = cls(use_caching=caching)
        target = signal if where == "instance" else cls
        asked = []

        def count(original, sender):
            asked.append(sender)
            return original(sender)

        def ask(*senders):
            for sender in senders:
                use(signal, how, sender)
            asked.append("next")

        with replaced(target, count):
            ask(Sender, None, "text", 5)
            signal.connect(one, sender=Sender)
            ask(Sender, Sender, Other, Other, None, "text", 5, [])
            signal.sender_receivers_cache[Other] = []
            ask(Other)
            signal.sender_receivers_cache[Other] = dispatcher.NO_RECEIVERS
            ask(Other)
            signal._dead_receivers = True
            ask(Sender, Other)
            signal.receivers = tuple(signal.receivers)
            ask(Sender)
            signal.receivers = []
            ask(Sender)
        ask(Sender)
        return asked

    assert Sender in assert_same(scenario)


def test_found_as_an_attribute(assert_same, caching, how):
    """By an own ``__getattribute__``, a descriptor, a property or an object."""

    class Descriptor:
        def __get__(self, instance, owner):
            return lambda sender: ([lambda **kwargs: "descriptor"], [])

    class Data(Descriptor):
        def __set__(self, instance, value):
            raise AttributeError

    def scenario(Signal):
        seen = []
        for value in [
            Descriptor(),
            Data(),
            property(lambda self: lambda sender: ([one], [])),
            staticmethod(lambda sender: ([two], [])),
            classmethod(lambda cls, sender: ([cls.receive], [])),
            mock.Mock(return_value=([one], [])),
            None,
        ]:
            contents = {"_live_receivers": value, "receive": staticmethod(one)}
            cls = type("Subclass", (Signal,), contents)
            signal = cls(use_caching=caching)
            signal.connect(one)
            vars(signal)["_live_receivers"] = lambda sender: ([two], [])
            seen.append(describe(use(signal, how)))
            del vars(signal)["_live_receivers"]
            seen.append(describe(use(signal, how)))
        return seen

    def describe(outcome):
        if isinstance(outcome, list):
            return [response for _, response in outcome]
        return outcome

    assert assert_same(scenario)


def test_arguments_of_the_receivers(assert_same, caching, where):
    def scenario(Signal):
        signal, target = make(Signal, caching, where)
        seen = []

        def keep(**kwargs):
            seen.append((list(kwargs), kwargs["signal"] is signal, kwargs["sender"]))

        def call(*args, **kwargs):
            for send in (signal.send, signal.send_robust):
                try:
                    send(*args, **kwargs)
                except TypeError as error:
                    seen.append(str(error))

        async def keep_too(**kwargs):
            keep(**kwargs)

        for found in (([keep], []), ([keep], [keep_too]), ((keep,), (keep_too,))):
            with replaced(target, lambda *args, found=found: found):
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


def test_what_it_does_counts_from_the_next_send_on(assert_same, caching, where, how):
    def scenario(Signal):
        signal, target = make(Signal, caching, where)
        seen = []

        others = [lambda **kwargs: "three"]

        def change(original, sender):
            found = original(sender)
            if not seen:
                seen.append("changed")
                signal.disconnect(one, sender=Sender)
                signal.connect(others[0])
                seen.append(use(signal, how))
            return found

        with replaced(target, change):
            seen += [use(signal, how), use(signal, how)]
        seen = [describe(each) for each in seen]
        others.clear()
        gc.collect()
        return seen, use(signal, how)

    def describe(outcome):
        if isinstance(outcome, list):
            return [response for _, response in outcome]
        return outcome

    assert assert_same(scenario)


def test_taking_itself_off(assert_same, caching, where, how):
    def scenario(Signal):
        signal, target = make(Signal, caching, where)
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
            seen += [use(signal, how), use(signal, how)]
        return seen, target._live_receivers == original

    assert assert_same(scenario)[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_errors_that_are_no_exceptions(assert_same, caching, where, how, error):
    def scenario(Signal):
        signal, target = make(Signal, caching, where)

        def stop(*args, **kwargs):
            raise error

        seen = []
        for function in (stop, lambda *args: ([stop], [])):
            with replaced(target, function):
                try:
                    seen.append(use(signal, how))
                except error:
                    seen.append("stopped")
        return seen

    assert assert_same(scenario)[0] == "stopped"


def test_sending_in_the_look_up_ends_in_a_recursion_error(
    assert_same, caching, where, how
):
    def scenario(Signal):
        signal, target = make(Signal, caching, where)

        def again(original, sender):
            return getattr(signal, how)(sender)

        with replaced(target, again), pytest.raises(RecursionError):
            getattr(signal, how)(Sender)
        return use(signal, how)

    assert assert_same(scenario)


# Django's own function, which an agent has kept.


@contextmanager
def agent(when):
    """Have an agent's wrapper on Django's class, with the dispatcher swapped."""
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
def test_what_stays_compiled(implementation, caching, how, when, make_signal):
    """Of a send under an agent, the only function that is run is the agent's."""
    signal = make_signal(use_caching=caching)
    with agent(when):
        signal.connect(one, sender=Sender)
        use(signal, how)
        called = set()

        def note(frame, event, argument):
            if event == "call":
                called.add(frame.f_code.co_qualname.rpartition(".")[2])

        sys.setprofile(note)
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
    """From its first send on, through death, cache and edit, up to ``uninstall()``."""

    def scenario():
        seen = []

        class Dies:
            def method(self, **kwargs):
                return "method"

        signal = ModelSignal(use_caching=caching)
        dies = Dies()
        for receiver, sender in [(one, Sender), (two, None), (dies.method, Sender)]:
            seen.append(outcome(signal))
            signal.connect(receiver, sender=sender)
        signal.connect(asynchronous, sender=Other)
        seen += [outcome(signal), outcome(signal, Other), outcome(signal, None)]
        del dies
        gc.collect()
        seen += [outcome(signal), len(signal.receivers)]
        signal.receivers.reverse()
        seen += [outcome(signal), outcome(signal, "text"), outcome(signal, [])]
        signal.disconnect(two)
        for _ in range(700):
            signal.connect(lambda **kwargs: "many", Other, weak=False)
        return [*seen, outcome(signal), outcome(signal, Other), outcome(signal, int)]

    def outcome(signal, sender=Sender):
        found = use(signal, how, sender)
        if isinstance(found, list):
            return [response for _, response in found]
        return found

    expected = scenario()
    with agent(when):
        assert scenario() == expected
    assert scenario() == expected


@pytest.mark.parametrize("kind", ["function", "equal"])
def test_patch_that_is_equal_to_what_it_replaces(assert_same_swapped, caching, kind):
    """As wrapt's wrappers are."""

    class Equal:
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
            return Equal(function)
        return lambda *args: Equal(function)(*args)

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
def test_djangos_function_stays_what_it_is():
    """Its errors too, and what a program assigns to it."""
    signal = django.dispatch.Signal()
    signal.connect(one)

    def replacement(self, sender=None):
        return sender

    def describe():
        seen = [
            str(inspect.signature(DJANGOS)),
            DJANGOS.__code__.co_filename == dispatcher.__file__,
            vars(DJANGOS),
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
                seen.append(DJANGOS(*args, **kwargs))
            except (TypeError, AttributeError) as error:
                seen.append((type(error), str(error)))
        return seen

    def describe_changed():
        code = DJANGOS.__code__
        seen = [describe()]
        DJANGOS.__defaults__ = (Sender,)
        seen.append(describe())
        DJANGOS.__code__ = replacement.__code__
        seen += [DJANGOS(signal), DJANGOS(signal, 1)]
        DJANGOS.__code__ = code
        DJANGOS.__defaults__ = None
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
    assert django.dispatch.Signal._live_receivers is DJANGOS
