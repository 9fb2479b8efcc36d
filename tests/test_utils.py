"""Helpers around signals: on stock Django, swapped, and with signals of our own."""

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
    """The class of signals: Django's, as it is and swapped, and altdispatch's."""
    if request.param == "swapped":
        assert altdispatch.install()
    ours = request.param == "ours"
    yield IMPLEMENTATIONS[implementation].Signal if ours else django.dispatch.Signal
    altdispatch.uninstall()


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def signal(signal_class: type, request: pytest.FixtureRequest) -> Iterator[object]:
    """A signal with a receiver; its attributes are to be as they were in the end."""
    signal = signal_class(use_caching=request.param)
    signal.connect(receiver)
    before = dict(vars(signal))
    yield signal
    assert vars(signal).keys() == before.keys()


def answers(signal, sender=Sender):
    return [answer for _, answer in signal.send(sender)]


# muted()


def test_muted(signal):
    signal.connect(async_receiver)
    assert answers(signal) == ["called", "awaited"]
    with muted(signal):
        assert answers(signal) == answers(signal, Other) == []
        assert signal.send_robust(Sender) == []
        assert asyncio.run(signal.asend(Sender)) == []
        assert asyncio.run(signal.asend_robust(Sender)) == []
        assert not signal.has_listeners(Sender)
    assert answers(signal) == ["called", "awaited"]


def test_muted_senders(signal):
    with muted(signal, senders=[Sender]):
        assert answers(signal) == []
        assert answers(signal, Other) == ["called"]
    with muted(signal, senders=[]):
        assert answers(signal) == ["called"]


class Equal:
    """Equal to all others of its kind, which are other senders all the same."""

    def __eq__(self, other):
        return isinstance(other, Equal)

    __hash__ = object.__hash__


def test_senders_are_told_by_identity(signal):
    meant, other = Equal(), Equal()
    with muted(signal, senders=[meant]):
        assert answers(signal, meant) == []
        assert answers(signal, other) == ["called"]
    with recorded(signal, senders=[meant]) as sends:
        answers(signal, other)
        answers(signal, meant)
    assert [sent.sender is meant for sent in sends] == [True]


def test_senders_that_can_be_read_once(signal):
    """A block is used again, so it has a list of them."""
    mutes = muted(signal, senders=iter([Sender]))
    records = recorded(signal, senders=iter([Sender]))
    for _ in range(2):
        with records as sends, mutes:
            assert answers(signal) == []
        assert len(sends) == 1


def test_class_that_has_methods_of_its_own(signal_class):
    class Shouts(signal_class):
        def send(self, sender, **named):
            return [(who, got.upper()) for who, got in super().send(sender, **named)]

        def _live_receivers(self, sender):
            receivers, async_receivers = super()._live_receivers(sender)
            return receivers[:1], async_receivers

    signal = Shouts()
    with connected(receiver, signal), connected(receiver, signal):
        with recorded(signal) as sends:
            assert answers(signal) == ["CALLED"]
        assert [sent.answers for sent in sends] == [[(receiver, "CALLED")]]
        with muted(signal, senders=[Other]):
            assert answers(signal) == ["CALLED"]
            assert answers(signal, Other) == []


def test_several_that_are_muted(signal, signal_class):
    other = signal_class()
    other.connect(receiver)
    with muted(signal, other):
        assert answers(signal) == answers(other) == []
    assert answers(signal) == answers(other) == ["called"]


def test_muted_after_an_error(signal):
    with pytest.raises(KeyError), muted(signal):
        raise KeyError
    assert answers(signal) == ["called"]


def test_muted_blocks_that_nest(signal):
    first, second = muted(signal), muted(signal, senders=[Sender])
    first.__enter__()
    second.__enter__()
    assert answers(signal) == answers(signal, Other) == []
    # In the wrong order.
    first.__exit__(None, None, None)
    assert answers(signal) == []
    assert answers(signal, Other) == ["called"]
    second.__exit__(None, None, None)
    assert answers(signal) == ["called"]


def test_what_is_connected_while_muted(signal):
    with muted(signal):
        assert signal.disconnect(receiver)
        signal.connect(async_receiver)
    assert answers(signal) == ["awaited"]


def test_other_threads_are_not_muted(signal):
    seen = []

    def see():
        seen.extend(answers(signal))

    with muted(signal):
        thread = threading.Thread(target=see)
        thread.start()
        thread.join()
        assert answers(signal) == []
    assert seen == ["called"]


def test_other_tasks_are_not_muted(signal):
    async def main():
        muting, done = asyncio.Event(), asyncio.Event()

        async def mute():
            async with muted(signal):
                muting.set()
                loop = asyncio.get_running_loop()
                outer = await loop.run_in_executor(None, answers, signal)
                # It holds in what takes the context of in here.
                inner = [
                    await sync_to_async(answers)(signal),
                    await asyncio.to_thread(answers, signal),
                    await asyncio.create_task(see()),
                ]
                await done.wait()
                return outer, inner

        async def see():
            return [answer for _, answer in await signal.asend(Sender)]

        task = asyncio.create_task(mute())
        await muting.wait()
        seen = await see()
        done.set()
        return seen, await task

    assert asyncio.run(main()) == (["called"], (["called"], [[], [], []]))


def test_task_that_outlives_the_block(signal):
    async def main():
        go_on = asyncio.Event()

        async def see():
            await go_on.wait()
            return [answer for _, answer in await signal.asend(Sender)]

        with muted(signal):
            task = asyncio.create_task(see())
            await asyncio.sleep(0)
        with muted(signal):
            go_on.set()
            return await task

    assert asyncio.run(main()) == ["called"]


def test_muted_by_many_threads(signal):
    """Each for itself, all at once."""
    right = []

    def work():
        for _ in range(50):
            with muted(signal):
                right.append(answers(signal) == [])
            right.append(answers(signal) == ["called"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(right) == 400
    assert all(right)


def test_muted_functions(signal):
    @muted(signal)
    def function(*args):
        """Recurses."""
        return answers(signal) if not args else function(*args[1:])

    @muted(signal)
    async def coroutine_function():
        await asyncio.sleep(0)
        return await signal.asend(Sender)

    assert function(1, 2) == asyncio.run(coroutine_function()) == []
    assert function.__doc__ == "Recurses."
    assert inspect.iscoroutinefunction(coroutine_function)
    assert answers(signal) == ["called"]


def test_decorating_what_is_marked_as_a_coroutine_function(signal):
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
            assert answers(signal) == []
        assert answers(signal) == ["called"]
    finally:
        altdispatch.uninstall()
    assert "_live_receivers" not in vars(signal)


def test_muted_where_somebody_has_patched(signal, monkeypatch):
    def live_receivers(sender):
        return [lambda **kwargs: "theirs"], []

    with monkeypatch.context() as patched:
        patched.setattr(signal, "_live_receivers", live_receivers)
        with muted(signal):
            assert answers(signal) == []
        assert answers(signal) == ["theirs"]
        assert vars(signal)["_live_receivers"] is live_receivers
    # They remove what was there when they came.
    block = muted(signal)
    block.__enter__()
    with monkeypatch.context() as patched:
        patched.setattr(signal, "_live_receivers", live_receivers)
        block.__exit__(None, None, None)
        assert answers(signal) == ["theirs"]
    assert answers(signal) == ["called"]
    with muted(signal):
        assert answers(signal) == []


@pytest.mark.django_db
@pytest.mark.usefixtures("swapped")
def test_muted_models():
    saved = []

    def note(sender, instance, **kwargs):
        saved.append(instance.username)

    with connected(note, pre_save, post_save, senders=[User]):
        with muted(pre_save, senders=[User]):
            User.objects.create(username="first")
        with muted(pre_save, post_save, senders=[Group]):
            User.objects.create(username="second")
    assert saved == ["first", "second", "second"]


HELPERS = [muted, recorded, partial(connected, receiver)]


@pytest.mark.parametrize("wrong", [(), ("post_save",), (post_save, None), ([],)])
@pytest.mark.parametrize("helper", HELPERS)
def test_what_is_no_signal(helper, wrong):
    with pytest.raises(TypeError, match="signal"):
        helper(*wrong)


def test_block_that_holds_already(signal):
    block = muted(signal)
    with block:
        with pytest.raises(RuntimeError, match="active already"), block:
            pass
        assert answers(signal) == []
    with block:
        assert answers(signal) == []
    with pytest.raises(RuntimeError, match="is not active"):
        block.__exit__(None, None, None)


def test_what_cannot_be_decorated():
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
    """As classes and by name, with every signal."""
    signal = signal_class()
    signal.connect(receiver)
    if helper == "muted":
        with muted(signal, senders=senders):
            assert answers(signal, User) == []
            assert answers(signal, Group) == ["called"]
    elif helper == "recorded":
        with recorded(signal, senders=senders) as sends:
            answers(signal, Group)
            answers(signal, User)
        assert [sent.sender for sent in sends] == [User]
    else:
        with connected(async_receiver, signal, senders=senders):
            assert answers(signal, User) == ["called", "awaited"]
            assert answers(signal, Group) == ["called"]
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
def test_what_is_no_sender(helper, senders, error, message):
    """It is said at once, not when the block is entered."""
    with pytest.raises(error, match=message):
        helper(post_save, senders=senders)


@pytest.mark.parametrize("helper", HELPERS)
def test_models_that_are_not_there(helper):
    """That is said on entering, as decorators are made before models are."""
    for sender in ("auth.Usr", "oauth.User"):
        block = helper(post_save, senders=[sender])
        with pytest.raises(LookupError, match=sender.partition(".")[0]), block:
            pass
    assert not vars(post_save).keys() - vars(ModelSignal()).keys()


# Single receivers


class Methods:
    def method(self, **kwargs):
        return "method"


def test_single_receivers_that_are_muted(signal):
    methods, others = Methods(), Methods()
    signal.connect(async_receiver)
    signal.connect(methods.method)
    signal.connect(others.method, dispatch_uid="theirs")
    with muted(signal, receivers=[receiver]):
        assert answers(signal) == ["method", "method", "awaited"]
        with muted(signal, receivers=(methods.method, async_receiver)):
            assert signal.send(Sender) == [(others.method, "method")]
            assert signal.has_listeners(Sender)
            with muted(signal, receivers=iter([others.method])):
                assert signal.send_robust(Sender) == []
                assert asyncio.run(signal.asend(Sender)) == []
                assert not signal.has_listeners(Sender)
    assert answers(signal) == ["called", "method", "method", "awaited"]
    with muted(signal, receivers=[]):
        assert len(answers(signal)) == 4


def test_single_receivers_of_some_senders(signal):
    with muted(signal, senders=[Other], receivers=[receiver]):
        assert answers(signal) == ["called"]
        assert answers(signal, Other) == []


def test_single_receivers_are_told_by_identity(signal):
    class Receives(Equal):
        def __call__(self, **kwargs):
            return "called too"

    one, other = Receives(), Receives()
    with (
        connected(one, signal),
        connected(other, signal),
        muted(signal, receivers=[one]),
    ):
        first, second = signal.send(Sender)
        assert (first[0], second[0] is other) == (receiver, True)


def test_single_receivers_that_monitoring_has_wrapped(signal, monkeypatch):
    """As Sentry's SDK does it."""
    own = signal._live_receivers

    def live_receivers(sender):
        return tuple(
            [wraps(each)(partial(each)) for each in found] for found in own(sender)
        )

    monkeypatch.setattr(signal, "_live_receivers", live_receivers)
    with muted(signal, receivers=[receiver]):
        assert answers(signal) == []
    with muted(signal, receivers=[async_receiver]):
        assert answers(signal) == ["called"]
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("receivers", "message"),
    [
        (receiver, "receivers must be a list, not <function receiver"),
        (["receiver"], "'receiver' is not a receiver: it can't be called"),
        ([post_save], "is not a receiver"),
    ],
)
def test_what_is_no_receiver(receivers, message):
    with pytest.raises(TypeError, match=message):
        muted(post_save, receivers=receivers)


def test_signals_and_receiver_in_the_wrong_order():
    with pytest.raises(TypeError, match=r"ModelSignal object at .* is not a receiver"):
        connected(post_save, receiver)


# connected()


def test_connected(signal):
    with connected(async_receiver, signal) as given:
        assert given is async_receiver
        assert answers(signal) == ["called", "awaited"]
    assert answers(signal) == ["called"]


def test_connected_for_a_sender(signal):
    with connected(async_receiver, signal, senders=[Sender]):
        assert answers(signal) == ["called", "awaited"]
        assert answers(signal, Other) == ["called"]


def test_connected_is_kept_alive(signal):
    with connected(lambda **kwargs: "lambda", signal):
        assert answers(signal) == ["called", "lambda"]


def test_connected_that_no_weak_reference_can_be_made_of(signal):
    class Slotted:
        __slots__ = ()

        def __call__(self, **kwargs):
            return "slotted"

    with connected(Slotted(), signal):
        assert answers(signal) == ["called", "slotted"]


def test_connected_to_several(signal, signal_class):
    other = signal_class()
    with connected(async_receiver, signal, other):
        assert answers(signal) == ["called", "awaited"]
        assert answers(other) == ["awaited"]
    assert answers(signal) == ["called"]
    assert other.receivers == []


def test_connected_twice(signal):
    """Each is a connection of its own, beside one that was there."""
    with connected(receiver, signal):
        with connected(receiver, signal):
            assert answers(signal) == ["called"] * 3
        assert answers(signal) == ["called"] * 2
        assert signal.disconnect(receiver)
        assert answers(signal) == ["called"]
        signal.connect(receiver)
    assert answers(signal) == ["called"]


def test_connected_function(signal):
    calls = []

    @connected(lambda **kwargs: calls.append(kwargs["sender"]), signal)
    def function():
        return len(signal.send(Sender))

    assert function() == 2
    assert function() == 2
    assert calls == [Sender, Sender]
    assert answers(signal) == ["called"]


def test_connected_for_several_senders(signal):
    with connected(async_receiver, signal, senders=[Sender, Other, Sender]):
        assert answers(signal) == answers(signal, Other) == ["called", "awaited"]
        assert answers(signal, Equal) == ["called"]
    with connected(async_receiver, signal, senders=[]):
        assert answers(signal) == ["called"]


def test_what_cannot_be_connected(signal, signal_class):
    other = signal_class()
    block = connected(lambda: None, other, signal)
    with override_settings(DEBUG=True), pytest.raises(ValueError, match="keyword"):
        block.__enter__()
    assert other.receivers == []
    assert answers(signal) == ["called"]


# recorded()


def test_recorded(signal):
    with recorded(signal) as sends:
        signal.send(Sender, a=1)
        signal.send_robust(sender=Other)
        asyncio.run(signal.asend(Other, b=2))
        asyncio.run(signal.asend_robust(Sender))
    signal.send(Sender)
    answer = [(receiver, "called")]
    assert sends == [
        Sent(signal, Sender, {"a": 1}, "send", answer),
        Sent(signal, Other, {}, "send_robust", answer),
        Sent(signal, Other, {"b": 2}, "asend", answer),
        Sent(signal, Sender, {}, "asend_robust", answer),
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


def test_several_that_are_recorded(signal, signal_class):
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
        assert answers(signal) == answers(signal, Other) == ["called"]
    assert [sent.sender for sent in sends] == [Sender]


def test_recorded_that_calls_nobody(signal):
    signal.disconnect(receiver)
    with recorded(signal) as sends:
        signal.send(Sender)
    assert sends == [Sent(signal, Sender, {}, "send")]


def test_recorded_that_fails(signal):
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


def test_recorded_that_is_interrupted(signal):
    def interrupts(**kwargs):
        raise KeyboardInterrupt

    with (
        connected(interrupts, signal),
        recorded(signal) as sends,
        pytest.raises(KeyboardInterrupt),
    ):
        signal.send_robust(Sender)
    assert isinstance(sends[0].error, KeyboardInterrupt)


def test_recorded_blocks_that_nest(signal):
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


def test_recorded_sends_in_the_order_in_which_they_began(signal):
    def sends_more(sender, **kwargs):
        if sender is Sender:
            signal.send(Other)

    with connected(sends_more, signal), recorded(signal) as sends:
        signal.send(Sender)
    assert [sent.sender for sent in sends] == [Sender, Other]
