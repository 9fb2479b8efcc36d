"""Test hybrid receivers: ``send()`` calls one side, ``asend()`` awaits the other."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import threading
from contextvars import ContextVar
from functools import partial
from unittest import mock

import django.dispatch
import pytest
from asgiref.sync import ThreadSensitiveContext
from django.core.signals import request_started
from django.test import override_settings

from altdispatch.hybrid import hybrid
from altdispatch.listing import list_signals
from altdispatch.releases import SYNC_RECEIVERS_FIRST
from altdispatch.utils import muted, recorded

spoken = django.dispatch.Signal()


class Sender:
    pass


@hybrid
def receiver(**kwargs):
    """Return the name of the side."""
    return "called"


@receiver.asynchronous
async def receiver(**kwargs):
    return "awaited"


class Holder:
    @hybrid
    def method(self, **kwargs):
        return "called", self

    @method.asynchronous
    async def method(self, **kwargs):
        return "awaited", self

    @classmethod
    @hybrid
    def of_class(cls, **kwargs):
        return "called", cls


def asend(signal, method="asend"):
    async def send():
        return await getattr(signal, method)(Sender)

    return asyncio.run(send())


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def signal(Signal, request):
    """Return a signal of altdispatch, of each implementation."""
    return Signal(use_caching=request.param)


def test_sides(signal):
    signal.connect(receiver, sender=Sender)
    called, awaited = [(receiver, "called")], [(receiver, "awaited")]
    assert signal.send(Sender) == signal.send_robust(Sender) == called
    assert asend(signal) == asend(signal, "asend_robust") == awaited


def test_sides_as_arguments(signal):
    async def side(**kwargs):
        return kwargs

    both = hybrid(receiver, side)
    signal.connect(both)
    assert asend(signal) == [(both, {"signal": signal, "sender": Sender})]


@pytest.mark.usefixtures("swapped")
def test_sides_when_swapped():
    spoken.connect(receiver)
    try:
        assert spoken.send(Sender) == [(receiver, "called")]
        assert asend(spoken) == [(receiver, "awaited")]
    finally:
        spoken.disconnect(receiver)


def test_stock_django_calls_the_synchronous_side():
    signal = django.dispatch.Signal()
    signal.connect(receiver)
    assert signal.send(Sender) == asend(signal) == [(receiver, "called")]


def test_hybrid_receiver_looks_like_its_synchronous_side():
    assert receiver(anything=1) == "called"
    assert receiver.__name__ == "receiver"
    assert inspect.getdoc(receiver) == "Return the name of the side."
    assert str(inspect.signature(receiver)) == "(**kwargs)"
    assert not inspect.iscoroutinefunction(receiver)


# Order of receivers, threads and contexts


def make_sync(notes, name):
    def receive(**kwargs):
        notes.append(name)
        return name

    return receive


def make_async(notes, name):
    async def receive(**kwargs):
        notes.append(name)
        await asyncio.sleep(0)
        return name

    return receive


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize(
    "kinds",
    [
        "hybrid sync",
        "sync hybrid",
        "sync hybrid sync sync hybrid hybrid sync",
        "async hybrid sync",
        "hybrid async sync async hybrid",
    ],
)
def test_order(assert_same, kinds, robust):
    """Receivers run, and their responses are returned, in Django's order."""

    def scenario(Signal):
        notes, receivers = [], []
        for place, kind in enumerate(kinds.split()):
            name = f"{kind} {place}"
            both = make_sync(notes, name), make_async(notes, name)
            made = {"sync": both[0], "async": both[1], "hybrid": hybrid(*both)}
            receivers.append(made[kind])
        signal = Signal()
        for each in receivers:
            signal.connect(each)
        responses = asend(signal, "asend_robust" if robust else "asend")
        if not SYNC_RECEIVERS_FIRST:
            # Up to Django 6.0, the asynchronous receivers run at the same time.
            notes = [name for name in notes if "async" not in name]
        return notes, [response for _, response in responses]

    assert_same(scenario)


def test_threads(signal):
    async def side(**kwargs):
        return threading.get_ident()

    def in_thread(**kwargs):
        return threading.get_ident()

    both = hybrid(in_thread, side)
    for each in (in_thread, both, receiver):
        signal.connect(each)
    (_, thread), (_, sender_thread), _ = asend(signal)
    assert sender_thread == threading.get_ident() != thread


def test_without_an_asynchronous_side(signal):
    both = hybrid(lambda **kwargs: threading.get_ident())
    signal.connect(both)
    ((_, thread),) = asend(signal)
    assert thread != threading.get_ident()


def test_a_side_that_is_set_later(signal):
    both = hybrid(lambda **kwargs: "called")
    signal.connect(both)
    assert asend(signal) == [(both, "called")]

    async def side(**kwargs):
        return "awaited"

    assert both.asynchronous(side) is both
    assert asend(signal) == [(both, "awaited")]


@pytest.mark.skipif(not SYNC_RECEIVERS_FIRST, reason="each kind has a separate context")
def test_context_variables(signal):
    variable = ContextVar("variable", default="")

    async def side(**kwargs):
        variable.set(variable.get() + "hybrid ")

    def in_thread(**kwargs):
        variable.set(variable.get() + "thread ")

    both = hybrid(in_thread, side)

    async def send():
        await signal.asend(Sender)
        return variable.get()

    for each in (both, in_thread):
        signal.connect(each)
    assert asyncio.run(send()) == "hybrid thread "


def test_the_thread_of_a_request_is_deferred(swapped):
    """Django's own receivers of ``request_started`` are called first."""

    async def send():
        async with ThreadSensitiveContext():
            before = threading.active_count()
            responses = await request_started.asend(Sender, scope={})
            return responses[-1], threading.active_count() - before

    request_started.connect(receiver)
    try:
        assert asyncio.run(send()) == ((receiver, "awaited"), 0)
    finally:
        request_started.disconnect(receiver)


def wrapper(**kwargs):
    return receiver(**kwargs)


@pytest.mark.parametrize("found", [([wrapper], []), ((receiver,), ())])
def test_patched_lookup(signal, found):
    """Agents wrap receivers, and may return iterables that can be read only once."""
    signal.connect(receiver)
    with mock.patch.object(type(signal), "_live_receivers", return_value=found):
        assert asend(signal) == [(found[0][0], "called")]


# Errors


def failing():
    def fail(**kwargs):
        raise LookupError("called")

    async def afail(**kwargs):
        raise LookupError("awaited")

    return hybrid(fail, afail)


def test_an_error_ends_the_send(signal):
    notes = []
    first, last = make_sync(notes, "first"), make_sync(notes, "last")
    both = failing()
    for each in (first, both, last):
        signal.connect(each)
    with pytest.raises(LookupError, match="awaited"):
        asend(signal)
    assert notes == ["first"]


def test_a_robust_send(signal, caplog):
    last = make_sync([], "last")
    both = failing()
    for each in (both, last):
        signal.connect(each)
    (_, error), (_, response) = asend(signal, "asend_robust")
    assert (type(error), str(error), response) == (LookupError, "awaited", "last")
    (record,) = caplog.records
    assert record.name == "django.dispatch"
    assert "failing.<locals>.fail" in record.getMessage()
    assert record.exc_info[1] is error


def test_base_exceptions_are_raised(signal):
    async def leave(**kwargs):
        raise SystemExit

    both = hybrid(receiver, leave)
    signal.connect(both)
    with pytest.raises(SystemExit):
        asend(signal, "asend_robust")


@pytest.mark.parametrize("wrong", [None, make_async([], "")])
def test_invalid_synchronous_side(wrong):
    with pytest.raises(TypeError, match="is not a synchronous receiver"):
        hybrid(wrong)


@pytest.mark.parametrize("wrong", ["text", make_sync([], ""), receiver])
def test_invalid_asynchronous_side(wrong):
    with pytest.raises(TypeError, match="is not a coroutine function"):
        hybrid(receiver, wrong)


def test_a_second_asynchronous_side():
    with pytest.raises(TypeError, match="has an asynchronous side already"):
        receiver.asynchronous(make_async([], ""))


# Connections


@pytest.fixture(params=["ours", "stock"])
def any_signal(request, Signal):
    """Return a signal of altdispatch, and one of Django."""
    return (Signal if request.param == "ours" else django.dispatch.Signal)()


def test_hybrid_receiver_is_connected_weakly(any_signal):
    both = hybrid(partial(receiver))
    any_signal.connect(both)
    assert any_signal.has_listeners()
    del both
    gc.collect()
    assert not any_signal.has_listeners()


def test_hybrid_receiver_is_connected_once(any_signal):
    any_signal.connect(receiver)
    any_signal.connect(receiver)
    assert len(any_signal.receivers) == 1
    assert any_signal.disconnect(receiver)
    assert any_signal.receivers == []


def test_dispatch_uid(any_signal):
    any_signal.connect(receiver, dispatch_uid="a uid")
    any_signal.connect(receiver, dispatch_uid="another")
    assert len(any_signal.send(Sender)) == 2
    assert any_signal.disconnect(dispatch_uid="a uid")
    assert len(asend(any_signal)) == 1
    assert len(any_signal.send(Sender)) == 1


def test_a_method(signal):
    holder = Holder()
    signal.connect(holder.method)
    signal.connect(holder.method)
    assert signal.send(Sender) == [(holder.method, ("called", holder))]
    assert asend(signal) == [(holder.method, ("awaited", holder))]
    assert signal.disconnect(holder.method)
    assert not signal.has_listeners(Sender)


def test_a_side_in_a_subclass(signal):
    """A subclass doesn't change the receiver of its base class."""

    class Base:
        @hybrid
        def receive(self, **kwargs):
            return "base"

        @receive.asynchronous
        async def receive(self, **kwargs):
            return "asynchronous base"

    class One(Base):
        @Base.receive.asynchronous
        async def receive(self, **kwargs):
            return "asynchronous one"

    class Two(Base):
        @Base.receive.asynchronous
        async def receive(self, **kwargs):
            return "asynchronous two"

    objects = [Base(), One(), Two()]
    for each in objects:
        signal.connect(each.receive)
    assert [response for _, response in signal.send(Base)] == ["base"] * 3
    assert [response for _, response in asyncio.run(signal.asend(Base))] == [
        "asynchronous base",
        "asynchronous one",
        "asynchronous two",
    ]


@hybrid
def at_module_level(**kwargs):
    return "synchronous"


def test_copies_are_the_same_receiver():
    """A copy can disconnect the original, as copies of functions can."""
    for make in (copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        assert make(at_module_level) is at_module_level
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(hybrid(lambda **kwargs: None))
    assert type(copy.copy(hybrid(partial(print)))) is hybrid


def test_an_object_with_an_attribute_of_the_same_name(signal):
    class Receiver:
        asynchronous = None

        def __init__(self):
            self.asynchronous = True

        def __call__(self, **kwargs):
            return "synchronous"

    async def side(**kwargs):
        return "asynchronous"

    connected = hybrid(Receiver(), side)
    signal.connect(connected)
    assert asyncio.run(signal.asend(Receiver)) == [(connected, "asynchronous")]


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_decorators_in_the_wrong_order(kind):
    with pytest.raises(TypeError, match=f"Put @{kind.__name__} above @hybrid"):
        hybrid(kind(at_module_level._synchronous))


def test_a_method_of_an_object_that_dies(any_signal):
    holder = Holder()
    any_signal.connect(holder.method)
    del holder
    gc.collect()
    assert asend(any_signal) == any_signal.send(Sender) == []


def test_a_method_of_a_class(signal):
    signal.connect(Holder.of_class)
    assert Holder.method is vars(Holder)["method"]
    assert (
        signal.send(Sender) == asend(signal) == [(Holder.of_class, ("called", Holder))]
    )


@pytest.mark.parametrize("accepts_kwargs", [True, False])
def test_check_of_arguments_in_debug(any_signal, accepts_kwargs):
    both = receiver if accepts_kwargs else hybrid(lambda sender: None)
    with override_settings(DEBUG=True):
        if accepts_kwargs:
            any_signal.connect(both)
            any_signal.connect(Holder().method)
        else:
            with pytest.raises(ValueError, match="must accept keyword arguments"):
                any_signal.connect(both)


# Helpers, the list of signals, and the cost without hybrid receivers


def test_muted(signal):
    signal.connect(receiver)
    holder = Holder()
    signal.connect(holder.method)
    with muted(signal, receivers=[receiver, holder.method]):
        assert asend(signal) == signal.send(Sender) == []
    with muted(signal, receivers=[receiver.__wrapped__]):
        assert asend(signal) == [(holder.method, ("awaited", holder))]


def test_recorded(signal):
    signal.connect(receiver)
    with recorded(signal) as sends:
        signal.send(Sender)
        asend(signal)
    assert [sent.answers for sent in sends] == [
        [(receiver, "called")],
        [(receiver, "awaited")],
    ]


def test_listed():
    holder = Holder()
    plain = make_sync([], "")
    for each in (receiver, holder.method, plain):
        spoken.connect(each)
    try:
        (found,) = (s for s in list_signals() if s.name == f"{__name__}.spoken")
    finally:
        for each in (receiver, holder.method, plain):
            spoken.disconnect(each)
    assert [(c.receiver, c.file, c.hybrid) for c in found.connections] == [
        (f"{__name__}.receiver", __file__, True),
        (f"{__name__}.Holder.method", __file__, True),
        (f"{__name__}.make_sync.<locals>.receive", __file__, False),
    ]


def test_sends_check_for_hybrid_receivers_only_if_there_is_one(run_python):
    program = """
        from altdispatch import dispatcher
        from altdispatch.hybrid import hybrid

        print(dispatcher.call_synchronous is dispatcher.call_in_thread)
        hybrid(print)
        print(dispatcher.call_synchronous is dispatcher.call_in_thread)
    """
    assert run_python(program).split() == ["True", "False"]
