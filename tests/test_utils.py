"""Test the helpers on stock Django, swapped, and with altdispatch's own Signal."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from functools import partial, wraps

import django.dispatch
import pytest
from asgiref.sync import markcoroutinefunction, sync_to_async
from django.contrib.auth.models import Group, User
from django.db.models.signals import ModelSignal, post_save, pre_save
from django.test import override_settings

import altdispatch
from altdispatch.utils import Sent, connected, muted, recorded

from .implementations import IMPLEMENTATIONS


class Sender:
    pass


class Other:
    pass


def receiver(**kwargs):
    return "called"


async def async_receiver(**kwargs):
    return "awaited"


@pytest.fixture(params=["stock", "swapped", "ours"])
def signal_class(request: pytest.FixtureRequest, implementation: str) -> Iterator[type]:
    """Return a class of signals: Django's, Django's swapped, or altdispatch's."""
    if request.param == "swapped":
        assert altdispatch.install()
    is_ours = request.param == "ours"
    yield IMPLEMENTATIONS[implementation].Signal if is_ours else django.dispatch.Signal
    altdispatch.uninstall()


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def signal(signal_class: type, request: pytest.FixtureRequest) -> Iterator[object]:
    """Return a signal with a receiver; check that no attribute is left behind."""
    signal = signal_class(use_caching=request.param)
    signal.connect(receiver)
    before = dict(vars(signal))
    yield signal
    assert vars(signal).keys() == before.keys()


def send_from(signal, sender=Sender):
    return [response for _, response in signal.send(sender)]


# muted()


def test_muted(signal):
    signal.connect(async_receiver)
    assert send_from(signal) == ["called", "awaited"]
    with muted(signal):
        assert send_from(signal) == send_from(signal, Other) == []
        assert signal.send_robust(Sender) == []
        assert asyncio.run(signal.asend(Sender)) == []
        assert asyncio.run(signal.asend_robust(Sender)) == []
        assert not signal.has_listeners(Sender)
    assert send_from(signal) == ["called", "awaited"]


def test_muted_senders(signal):
    with muted(signal, senders=[Sender]):
        assert send_from(signal) == []
        assert send_from(signal, Other) == ["called"]
    with muted(signal, senders=[]):
        assert send_from(signal) == ["called"]


class Equal:
    """Objects that compare equal but are different senders."""

    def __eq__(self, other):
        return isinstance(other, Equal)

    __hash__ = object.__hash__


def test_senders_are_compared_by_identity(signal):
    chosen, other = Equal(), Equal()
    with muted(signal, senders=[chosen]):
        assert send_from(signal, chosen) == []
        assert send_from(signal, other) == ["called"]
    with recorded(signal, senders=[chosen]) as sends:
        send_from(signal, other)
        send_from(signal, chosen)
    assert [sent.sender is chosen for sent in sends] == [True]


def test_senders_from_an_iterator(signal):
    """The senders are read once, as a block can be entered again."""
    mutes = muted(signal, senders=iter([Sender]))
    records = recorded(signal, senders=iter([Sender]))
    for _ in range(2):
        with records as sends, mutes:
            assert send_from(signal) == []
        assert len(sends) == 1


def test_subclass_with_overridden_methods(signal_class):
    class Upper(signal_class):
        def send(self, sender, **named):
            return [(each, got.upper()) for each, got in super().send(sender, **named)]

        def _live_receivers(self, sender):
            receivers, async_receivers = super()._live_receivers(sender)
            return receivers[:1], async_receivers

    signal = Upper()
    with connected(receiver, signal), connected(receiver, signal):
        with recorded(signal) as sends:
            assert send_from(signal) == ["CALLED"]
        assert [sent.answers for sent in sends] == [[(receiver, "CALLED")]]
        with muted(signal, senders=[Other]):
            assert send_from(signal) == ["CALLED"]
            assert send_from(signal, Other) == []


def test_muting_several_signals(signal, signal_class):
    other = signal_class()
    other.connect(receiver)
    with muted(signal, other):
        assert send_from(signal) == send_from(other) == []
    assert send_from(signal) == send_from(other) == ["called"]


def test_muted_after_an_error(signal):
    with pytest.raises(KeyError), muted(signal):
        raise KeyError
    assert send_from(signal) == ["called"]


def test_nested_muted_blocks(signal):
    first, second = muted(signal), muted(signal, senders=[Sender])
    first.__enter__()
    second.__enter__()
    assert send_from(signal) == send_from(signal, Other) == []
    # Leave the outer block first.
    first.__exit__(None, None, None)
    assert send_from(signal) == []
    assert send_from(signal, Other) == ["called"]
    second.__exit__(None, None, None)
    assert send_from(signal) == ["called"]


def test_connecting_while_muted(signal):
    with muted(signal):
        assert signal.disconnect(receiver)
        signal.connect(async_receiver)
    assert send_from(signal) == ["awaited"]


def test_other_threads_are_not_muted(signal):
    seen = []

    def send_in_thread():
        seen.extend(send_from(signal))

    with muted(signal):
        thread = threading.Thread(target=send_in_thread)
        thread.start()
        thread.join()
        assert send_from(signal) == []
    assert seen == ["called"]


def test_other_tasks_are_not_muted(signal):
    async def main():
        muting, done = asyncio.Event(), asyncio.Event()

        async def mute():
            async with muted(signal):
                muting.set()
                loop = asyncio.get_running_loop()
                outer = await loop.run_in_executor(None, send_from, signal)
                # Code that runs in the context of this task is muted too.
                inner = [
                    await sync_to_async(send_from)(signal),
                    await asyncio.to_thread(send_from, signal),
                    await asyncio.create_task(send()),
                ]
                await done.wait()
                return outer, inner

        async def send():
            return [response for _, response in await signal.asend(Sender)]

        task = asyncio.create_task(mute())
        await muting.wait()
        responses = await send()
        done.set()
        return responses, await task

    assert asyncio.run(main()) == (["called"], (["called"], [[], [], []]))


def test_task_that_outlives_the_block(signal):
    async def main():
        go_on = asyncio.Event()

        async def send():
            await go_on.wait()
            return [response for _, response in await signal.asend(Sender)]

        with muted(signal):
            task = asyncio.create_task(send())
            await asyncio.sleep(0)
        with muted(signal):
            go_on.set()
            return await task

    assert asyncio.run(main()) == ["called"]


def test_muted_in_many_threads(signal):
    """Each thread mutes the signal for itself only."""
    results = []

    def work():
        for _ in range(50):
            with muted(signal):
                results.append(send_from(signal) == [])
            results.append(send_from(signal) == ["called"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400
    assert all(results)


def test_muted_functions(signal):
    @muted(signal)
    def function(*args):
        """Recurses."""
        return send_from(signal) if not args else function(*args[1:])

    @muted(signal)
    async def coroutine_function():
        await asyncio.sleep(0)
        return await signal.asend(Sender)

    assert function(1, 2) == asyncio.run(coroutine_function()) == []
    assert function.__doc__ == "Recurses."
    assert inspect.iscoroutinefunction(coroutine_function)
    assert send_from(signal) == ["called"]


def test_decorating_a_function_marked_as_a_coroutine_function(signal):
    async def send():
        return await signal.asend(Sender)

    def function():
        return send()

    decorated = muted(signal)(markcoroutinefunction(function))
    assert asyncio.run(decorated()) == []


@pytest.mark.parametrize("swap", [altdispatch.install, altdispatch.uninstall])
def test_swapped_while_muted(swap):
    signal = django.dispatch.Signal()
    signal.connect(receiver)
    if swap is altdispatch.uninstall:
        assert altdispatch.install()
    try:
        with muted(signal):
            assert swap()
            assert send_from(signal) == []
        assert send_from(signal) == ["called"]
    finally:
        altdispatch.uninstall()
    assert "_live_receivers" not in vars(signal)


def test_muting_a_patched_signal(signal, monkeypatch):
    def live_receivers(sender):
        return [lambda **kwargs: "patched"], []

    with monkeypatch.context() as patch:
        patch.setattr(signal, "_live_receivers", live_receivers)
        with muted(signal):
            assert send_from(signal) == []
        assert send_from(signal) == ["patched"]
        assert vars(signal)["_live_receivers"] is live_receivers
    # Patch inside the block, and remove the patch after it.
    block = muted(signal)
    block.__enter__()
    with monkeypatch.context() as patch:
        patch.setattr(signal, "_live_receivers", live_receivers)
        block.__exit__(None, None, None)
        assert send_from(signal) == ["patched"]
    assert send_from(signal) == ["called"]
    with muted(signal):
        assert send_from(signal) == []


@pytest.mark.django_db
@pytest.mark.usefixtures("swapped")
def test_muted_models():
    saved = []

    def record(sender, instance, **kwargs):
        saved.append(instance.username)

    with connected(record, pre_save, post_save, senders=[User]):
        with muted(pre_save, senders=[User]):
            User.objects.create(username="first")
        with muted(pre_save, post_save, senders=[Group]):
            User.objects.create(username="second")
    assert saved == ["first", "second", "second"]


HELPERS = [muted, recorded, partial(connected, receiver)]


@pytest.mark.parametrize("wrong", [(), ("post_save",), (post_save, None), ([],)])
@pytest.mark.parametrize("helper", HELPERS)
def test_arguments_that_are_not_signals(helper, wrong):
    with pytest.raises(TypeError, match="signal"):
        helper(*wrong)


def test_entering_an_active_block(signal):
    block = muted(signal)
    with block:
        with pytest.raises(RuntimeError, match="active already"), block:
            pass
        assert send_from(signal) == []
    with block:
        assert send_from(signal) == []
    with pytest.raises(RuntimeError, match="is not active"):
        block.__exit__(None, None, None)


def test_objects_that_cannot_be_decorated():
    def generator():
        yield

    async def async_generator():
        yield

    for wrong in (Sender, generator, async_generator, Sender()):
        with pytest.raises(TypeError, match="can't be decorated"):
            muted(post_save)(wrong)


# Senders


@pytest.mark.parametrize(
    "senders", [["auth.User"], ("auth.user",), {User}, ["auth.User", User]]
)
@pytest.mark.parametrize("helper", ["muted", "recorded", "connected"])
def test_models_as_senders(signal_class, helper, senders):
    """Senders can be models or their names, for signals of every class."""
    signal = signal_class()
    signal.connect(receiver)
    if helper == "muted":
        with muted(signal, senders=senders):
            assert send_from(signal, User) == []
            assert send_from(signal, Group) == ["called"]
    elif helper == "recorded":
        with recorded(signal, senders=senders) as sends:
            send_from(signal, Group)
            send_from(signal, User)
        assert [sent.sender for sent in sends] == [User]
    else:
        with connected(async_receiver, signal, senders=senders):
            assert send_from(signal, User) == ["called", "awaited"]
            assert send_from(signal, Group) == ["called"]
    assert [each[0] for each in signal.send(User)] == [receiver]


@pytest.mark.parametrize(
    ("senders", "error", "message"),
    [
        ("auth.User", TypeError, "senders must be a list, not 'auth.User'"),
        (b"auth.User", TypeError, "senders must be a list, not b'auth.User'"),
        (User, TypeError, "senders must be a list, not <class '.*User'>"),
        (1, TypeError, "senders must be a list, not 1"),
        ([None], TypeError, "None is not a sender. For every sender, leave"),
        ([[User]], TypeError, "is not a sender: it can't be hashed"),
        (["User"], ValueError, "'User' is not a sender: a model is written as 'app"),
        (["a.b.C"], ValueError, "'a.b.C' is not a sender"),
        ([".User"], ValueError, "'.User' is not a sender"),
        (["auth."], ValueError, "'auth.' is not a sender"),
    ],
)
@pytest.mark.parametrize("helper", HELPERS)
def test_invalid_senders(helper, senders, error, message):
    """The error is raised at once, before the block is entered."""
    with pytest.raises(error, match=message):
        helper(post_save, senders=senders)


@pytest.mark.parametrize("helper", HELPERS)
def test_unknown_models(helper):
    """The error is raised on entering: decorators run before models are loaded."""
    for sender in ("auth.Usr", "oauth.User"):
        block = helper(post_save, senders=[sender])
        with pytest.raises(LookupError, match=sender.partition(".")[0]), block:
            pass
    assert not vars(post_save).keys() - vars(ModelSignal()).keys()


# Receivers


class Methods:
    def method(self, **kwargs):
        return "method"


def test_muting_receivers(signal):
    methods, others = Methods(), Methods()
    signal.connect(async_receiver)
    signal.connect(methods.method)
    signal.connect(others.method, dispatch_uid="theirs")
    with muted(signal, receivers=[receiver]):
        assert send_from(signal) == ["method", "method", "awaited"]
        with muted(signal, receivers=(methods.method, async_receiver)):
            assert signal.send(Sender) == [(others.method, "method")]
            assert signal.has_listeners(Sender)
            with muted(signal, receivers=iter([others.method])):
                assert signal.send_robust(Sender) == []
                assert asyncio.run(signal.asend(Sender)) == []
                assert not signal.has_listeners(Sender)
    assert send_from(signal) == ["called", "method", "method", "awaited"]
    with muted(signal, receivers=[]):
        assert len(send_from(signal)) == 4


def test_muting_receivers_for_some_senders(signal):
    with muted(signal, senders=[Other], receivers=[receiver]):
        assert send_from(signal) == ["called"]
        assert send_from(signal, Other) == []


def test_receivers_are_compared_by_identity(signal):
    class EqualReceiver(Equal):
        def __call__(self, **kwargs):
            return "called too"

    one, other = EqualReceiver(), EqualReceiver()
    with (
        connected(one, signal),
        connected(other, signal),
        muted(signal, receivers=[one]),
    ):
        first, second = signal.send(Sender)
        assert (first[0], second[0] is other) == (receiver, True)


def test_muting_receivers_that_monitoring_has_wrapped(signal, monkeypatch):
    """Sentry's SDK wraps receivers this way."""
    original = signal._live_receivers

    def live_receivers(sender):
        return tuple(
            [wraps(each)(partial(each)) for each in found] for found in original(sender)
        )

    monkeypatch.setattr(signal, "_live_receivers", live_receivers)
    with muted(signal, receivers=[receiver]):
        assert send_from(signal) == []
    with muted(signal, receivers=[async_receiver]):
        assert send_from(signal) == ["called"]
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("receivers", "message"),
    [
        (receiver, "receivers must be a list, not <function receiver"),
        (["receiver"], "'receiver' is not a receiver: it can't be called"),
        ([post_save], "is not a receiver"),
    ],
)
def test_invalid_receivers(receivers, message):
    with pytest.raises(TypeError, match=message):
        muted(post_save, receivers=receivers)


def test_signal_and_receiver_in_the_wrong_order():
    with pytest.raises(TypeError, match=r"ModelSignal object at .* is not a receiver"):
        connected(post_save, receiver)


# connected()


def test_connected(signal):
    with connected(async_receiver, signal) as entered:
        assert entered is async_receiver
        assert send_from(signal) == ["called", "awaited"]
    assert send_from(signal) == ["called"]


def test_connected_for_a_sender(signal):
    with connected(async_receiver, signal, senders=[Sender]):
        assert send_from(signal) == ["called", "awaited"]
        assert send_from(signal, Other) == ["called"]


def test_connected_is_kept_alive(signal):
    with connected(lambda **kwargs: "lambda", signal):
        assert send_from(signal) == ["called", "lambda"]


def test_connected_receiver_without_weak_references(signal):
    class Slotted:
        __slots__ = ()

        def __call__(self, **kwargs):
            return "slotted"

    with connected(Slotted(), signal):
        assert send_from(signal) == ["called", "slotted"]


def test_connected_to_several_signals(signal, signal_class):
    other = signal_class()
    with connected(async_receiver, signal, other):
        assert send_from(signal) == ["called", "awaited"]
        assert send_from(other) == ["awaited"]
    assert send_from(signal) == ["called"]
    assert other.receivers == []


def test_connected_twice(signal):
    """Each block adds a connection, also if the receiver is connected already."""
    with connected(receiver, signal):
        with connected(receiver, signal):
            assert send_from(signal) == ["called"] * 3
        assert send_from(signal) == ["called"] * 2
        assert signal.disconnect(receiver)
        assert send_from(signal) == ["called"]
        signal.connect(receiver)
    assert send_from(signal) == ["called"]


def test_connected_as_a_decorator(signal):
    calls = []

    @connected(lambda **kwargs: calls.append(kwargs["sender"]), signal)
    def function():
        return len(signal.send(Sender))

    assert function() == 2
    assert function() == 2
    assert calls == [Sender, Sender]
    assert send_from(signal) == ["called"]


def test_connected_for_several_senders(signal):
    with connected(async_receiver, signal, senders=[Sender, Other, Sender]):
        assert send_from(signal) == send_from(signal, Other) == ["called", "awaited"]
        assert send_from(signal, Equal) == ["called"]
    with connected(async_receiver, signal, senders=[]):
        assert send_from(signal) == ["called"]


def test_receiver_that_cannot_be_connected(signal, signal_class):
    other = signal_class()
    block = connected(lambda: None, other, signal)
    with override_settings(DEBUG=True), pytest.raises(ValueError, match="keyword"):
        block.__enter__()
    assert other.receivers == []
    assert send_from(signal) == ["called"]


# recorded()


def test_recorded(signal):
    with recorded(signal) as sends:
        signal.send(Sender, a=1)
        signal.send_robust(sender=Other)
        asyncio.run(signal.asend(Other, b=2))
        asyncio.run(signal.asend_robust(Sender))
    signal.send(Sender)
    responses = [(receiver, "called")]
    assert sends == [
        Sent(signal, Sender, {"a": 1}, "send", responses),
        Sent(signal, Other, {}, "send_robust", responses),
        Sent(signal, Other, {"b": 2}, "asend", responses),
        Sent(signal, Sender, {}, "asend_robust", responses),
    ]
    assert sends[0].receivers == [receiver]
    assert sends[0].error is None


def test_recorded_arguments_of_any_name(signal):
    named = {"name": 1, "method": 2, "function": 3, "args": 4, "named": 5}
    with recorded(signal) as sends:
        signal.send(Sender, **named)
        signal.send_robust(Sender, **named)
        asyncio.run(signal.asend(Sender, **named))
        asyncio.run(signal.asend_robust(Sender, **named))
    assert [sent.named for sent in sends] == [named] * 4


def test_recording_several_signals(signal, signal_class):
    other = signal_class()
    with recorded(signal, other) as sends:
        other.send(Sender)
        signal.send_robust(Sender)
    assert [(sent.signal, sent.method) for sent in sends] == [
        (other, "send"),
        (signal, "send_robust"),
    ]
    assert vars(other).keys() == vars(signal_class()).keys()


def test_recorded_senders(signal):
    with recorded(signal, senders=[Sender]) as sends:
        assert send_from(signal) == send_from(signal, Other) == ["called"]
    assert [sent.sender for sent in sends] == [Sender]


def test_recorded_send_without_receivers(signal):
    signal.disconnect(receiver)
    with recorded(signal) as sends:
        signal.send(Sender)
    assert sends == [Sent(signal, Sender, {}, "send")]


def test_recorded_send_that_fails(signal):
    def fails(**kwargs):
        raise error

    error = KeyError("this")
    with connected(fails, signal), recorded(signal) as sends:
        with pytest.raises(KeyError):
            signal.send(Sender)
        signal.send_robust(Sender)
        with pytest.raises(TypeError):
            signal.send()
    failed, robust, wrong = sends
    assert (failed.error, failed.answers) == (error, [])
    assert (robust.error, robust.answers[1]) == (None, (fails, error))
    assert isinstance(wrong.error, TypeError)


def test_recorded_send_that_is_interrupted(signal):
    def interrupts(**kwargs):
        raise KeyboardInterrupt

    with (
        connected(interrupts, signal),
        recorded(signal) as sends,
        pytest.raises(KeyboardInterrupt),
    ):
        signal.send_robust(Sender)
    assert isinstance(sends[0].error, KeyboardInterrupt)


def test_nested_recorded_blocks(signal):
    with recorded(signal) as outer:
        signal.send(Sender, n=1)
        with recorded(signal) as inner, muted(signal):
            signal.send(Sender, n=2)
        signal.send(Sender, n=3)
    assert [sent.named["n"] for sent in outer] == [1, 2, 3]
    assert [sent.named["n"] for sent in inner] == [2]
    assert [len(sent.answers) for sent in outer] == [1, 0, 1]


def test_recorded_in_other_threads(signal):
    with recorded(signal) as sends:
        thread = threading.Thread(target=signal.send, args=[Sender])
        thread.start()
        thread.join()
    assert len(sends) == 1


def test_recorded_sends_are_ordered_by_their_start(signal):
    def sends_more(sender, **kwargs):
        if sender is Sender:
            signal.send(Other)

    with connected(sends_more, signal), recorded(signal) as sends:
        signal.send(Sender)
    assert [sent.sender for sent in sends] == [Sender, Other]
