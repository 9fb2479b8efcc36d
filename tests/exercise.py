"""Use everything that the compiled code does.

``tests/test_memory.py`` and ``tests/sanitize.py`` run these functions to find leaks,
memory errors, and errors after failed allocations. The functions check their results,
so that they also find wrong ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
from typing import Any

import asgiref.sync

import altdispatch
from altdispatch import monitoring

logging.getLogger("django.dispatch").addHandler(logging.NullHandler())
logging.getLogger("django.dispatch").propagate = False


class Sender:
    """A sender."""


class Listener:
    """An object whose method is a receiver."""

    def receive(self, sender: Any, **kwargs: Any) -> Any:
        return len(kwargs)


def make_receivers(count: int) -> list[Any]:
    """Return functions, each of which returns its number."""
    return [lambda number=number, **kwargs: number for number in range(count)]


def send_to_each_kind(caching: bool) -> None:
    """Send to no receivers, to functions, methods and strong receivers, and to many."""
    signal = altdispatch.Signal(use_caching=caching)
    assert signal.send(Sender) == signal.send_robust(Sender, a=1) == []
    assert not signal.has_listeners(Sender)
    receivers = make_receivers(40)
    listener = Listener()
    for receiver in receivers[:2]:
        signal.connect(receiver, sender=Sender)
    signal.connect(listener.receive)
    strong = make_receivers(3)[2]
    signal.connect(strong, sender=Listener, weak=False)
    for _ in range(3):
        assert [response for _, response in signal.send(Sender, x=1)] == [0, 1, 2]
        assert [response for _, response in signal.send(sender=Listener)] == [1, 2]
        responses = signal.send_robust(int, **{"x": 1})
        assert [response for _, response in responses] == [2]
        assert signal.has_listeners(Sender)
        assert len(signal._live_receivers(Sender)[0]) == 3
    for receiver in receivers[2:]:
        signal.connect(receiver)
    many = {sys.intern(f"name{number}"): number for number in range(40)}
    for _ in range(3):
        responses = [response for _, response in signal.send(Sender, **many)]
        assert responses == [0, 1, 41, *range(2, 40)]
    assert len(signal.send(Sender, **{f"not interned {len(many)}": 1})) == 41
    del listener
    assert len(signal.send(Sender)) == 40
    random.Random(1).shuffle(receivers)
    for receiver in receivers:
        signal.disconnect(receiver, sender=Sender)
        signal.disconnect(receiver)
    assert [response for _, response in signal.send(Listener)] == [2]


def fail_and_recover(caching: bool) -> None:
    """Call receivers that raise, and others after them."""

    def fails(**kwargs: Any) -> None:
        raise ValueError("no")

    def works(**kwargs: Any) -> str:
        return "answer"

    signal = altdispatch.Signal(use_caching=caching)
    for receiver in (works, fails, works):
        signal.connect(receiver, dispatch_uid=len(signal.receivers))
    for _ in range(3):
        try:
            signal.send(Sender)
        except ValueError as error:
            assert error.args == ("no",)  # noqa: PT017 - no pytest in here
        else:
            raise AssertionError("send() did not raise the receiver's error")
        responses = [response for _, response in signal.send_robust(Sender)]
        assert responses[::2] == ["answer", "answer"]
        assert isinstance(responses[1], ValueError)
        try:
            signal.send(Sender, signal=1)
        except TypeError:
            pass
        else:
            raise AssertionError("send() accepted signal as an argument")


def change_while_sending(caching: bool) -> None:
    """Call receivers that change the receivers of the signal."""
    signal = altdispatch.Signal(use_caching=caching)
    receivers = make_receivers(5)

    def changes(**kwargs: Any) -> None:
        signal.disconnect(receivers[0], sender=Sender)
        signal.connect(receivers[4], sender=Sender)
        signal.receivers.reverse()
        signal.sender_receivers_cache.clear()
        del receivers[1:3]
        gc.collect(0)
        signal.send(Listener)

    signal.connect(changes, sender=Sender)
    for receiver in receivers[:4]:
        signal.connect(receiver, sender=Sender)
    del receiver
    assert [response for _, response in signal.send(Sender)] == [None, 0, 1, 2, 3]
    signal.receivers.clear()
    assert signal.send(Sender) == []


def connect_many(caching: bool) -> None:
    """Connect to many senders, and disconnect in three orders."""
    signal = altdispatch.Signal(use_caching=caching)
    senders = [Sender() for _ in range(60)]
    (receiver,) = make_receivers(1)
    for order in (senders, senders[::-1], random.Random(2).sample(senders, 60)):
        for sender in senders:
            signal.connect(receiver, sender=sender)
            signal.connect(receiver, sender=sender)
            assert len(signal.send(sender)) == 1
        for sender in order:
            assert signal.disconnect(receiver, sender=sender)
            assert not signal.disconnect(receiver, sender=sender)
            assert signal.send(sender) == []
    assert signal.receivers == []


def send_asynchronously(signal: Any) -> None:
    """Send in each way to receivers that return, wait, fail and are cancelled."""

    async def works(**kwargs: Any) -> int:
        return len(kwargs)

    async def waits(**kwargs: Any) -> str:
        await asyncio.sleep(0)
        return "waited"

    async def fails(**kwargs: Any) -> None:
        raise KeyError("no")

    async def ends(**kwargs: Any) -> None:
        raise asyncio.CancelledError

    @asgiref.sync.markcoroutinefunction
    def returns_an_awaitable(**kwargs: Any) -> Any:
        return asyncio.sleep(0, "else")

    def synchronous(**kwargs: Any) -> str:
        return "called"

    async def main() -> None:
        for _ in range(2):
            responses = [response for _, response in await signal.asend(Sender, a=1)]
            assert responses == ["called", 3, "waited", "else", 3], responses
        signal.connect(fails)
        for how in (signal.asend, signal.asend_robust):
            try:
                responses = [response for _, response in await how(Sender)]
            except KeyError as error:
                assert error.args == ("no",)  # noqa: PT017 - no pytest in here
            else:
                assert isinstance(responses[-1], KeyError)
        try:
            await signal.asend(Sender, signal=1)
        except TypeError:
            pass
        else:
            raise AssertionError("asend() accepted signal as an argument")
        signal.disconnect(fails)
        signal.connect(ends)
        with contextlib.suppress(asyncio.CancelledError):
            # Up to Django 6.0, it is raised.
            await signal.asend(Sender)
        signal.disconnect(ends)

    others = [works, waits, returns_an_awaitable]
    for receiver in (synchronous, *others):
        signal.connect(receiver)
    signal.connect(works, sender=Sender)
    asyncio.run(main())
    for _ in range(2):
        responses = [response for _, response in signal.send(Sender, a=1)]
        assert responses == ["called", 3, "waited", "else", 3]
    sync_receivers, async_receivers = signal._live_receivers(int)
    assert (sync_receivers, async_receivers) == ([synchronous], others)
    del synchronous
    sync_receivers.clear()
    assert signal.has_listeners(int)


def swap() -> None:
    """Swap, dispatch, and swap back."""
    from django.dispatch import Signal

    assert altdispatch.install()
    try:
        signal = Signal()
        receivers = make_receivers(2)
        for receiver in receivers:
            signal.connect(receiver)
        for _ in range(3):
            assert [response for _, response in signal.send(Sender)] == [0, 1]
    finally:
        altdispatch.uninstall()
    assert [response for _, response in signal.send(Sender)] == [0, 1]


def exercise() -> None:
    """Use signals without and with caching in each way."""
    for caching in (False, True):
        send_to_each_kind(caching)
        fail_and_recover(caching)
        change_while_sending(caching)
        connect_many(caching)
    swap()


def exercise_monitored() -> None:
    """Run the exercises with monitoring enabled and a subscriber."""
    # Forget the counts of earlier signals.
    monitoring.reset()
    monitoring.enable()
    with monitoring.subscribe(id, slower_than=0):
        exercise()
        exercise_asynchronously(altdispatch.Signal)
    monitoring.disable()


def exercise_asynchronously(signal_class: type) -> None:
    """Send asynchronously with signals without and with caching."""
    for caching in (False, True):
        send_asynchronously(signal_class(use_caching=caching))
