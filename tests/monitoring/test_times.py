"""Test the total, longest and own times of receivers."""

import asyncio
import sys
import time

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from altdispatch import monitoring
from altdispatch.hybrid import hybrid
from altdispatch.releases import SYNC_RECEIVERS_FIRST

from .helpers import (
    WAYS,
    Sender,
    counted,
    failing,
    plain,
    send,
    slow,
    stats_of,
    waiting,
)


@pytest.mark.parametrize("way", WAYS)
def test_times(signal, way):
    signal.connect(slow)
    signal.connect(waiting)
    for _ in range(2):
        send(way, signal)
    for stats in stats_of(signal).receivers:
        assert stats.is_async == (stats.name.endswith("waiting"))
        assert 0.01 <= stats.longest < stats.total
        assert stats.own == pytest.approx(stats.total)
        assert sum(count for _, count in stats.buckets) == 2
        assert all(upper > 0.01 for upper, count in stats.buckets if count)
        assert 0.005 <= stats.quantile(0) < stats.quantile(1) <= stats.longest


def test_own_time_around_a_hybrid_receiver(signal, Signal):
    """The asynchronous side runs in the task of its sender, also a receiver here."""
    inner = Signal()
    inner.connect(receiver := hybrid(plain, waiting))

    async def outer(**kwargs):
        await inner.asend(Sender)
        await asyncio.sleep(0.02)

    signal.connect(outer)
    send("asend", signal)
    (stats,) = stats_of(signal).receivers
    assert 0.02 <= stats.own < stats.total, receiver
    assert stats.own <= stats.total - 0.01


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inner_way", WAYS)
@pytest.mark.parametrize("is_async", [False, True])
def test_own_time(Signal, way, inner_way, is_async):
    """It's without receivers that are called inside, however these are called."""
    signal, inner = Signal(), Signal()
    inner.connect(slow)
    inner.connect(waiting)

    def outer(**kwargs):
        time.sleep(0.002)
        if inner_way.startswith("a"):
            async_to_sync(getattr(inner, inner_way))(Sender)
        else:
            getattr(inner, inner_way)(Sender)

    async def outer_async(**kwargs):
        await asyncio.sleep(0.002)
        if inner_way.startswith("a"):
            await getattr(inner, inner_way)(Sender)
        else:
            await sync_to_async(outer)()

    signal.connect(outer_async if is_async else outer)
    send(way, signal)
    (stats,) = stats_of(signal).receivers
    # What a receiver waits for in another thread is its own time. Before Django 6.1,
    # the others run at the same time.
    inside = 0.02
    if is_async and not inner_way.startswith("a"):
        inside = 0
    elif inner_way.startswith("a") and not (is_async and SYNC_RECEIVERS_FIRST):
        inside = 0.01
    assert stats.total - stats.own >= inside * 0.99
    assert 0.002 <= stats.own <= stats.total
    assert counted(inner)[2] == {"slow": (1, 0), "waiting": (1, 0)}


def test_own_time_of_receivers_that_wait_at_the_same_time(signal, Signal):
    """Each has the time of its own calls taken off, not that of the other's."""
    inner = Signal()
    inner.connect(slow)

    async def first(**kwargs):
        await asyncio.sleep(0.005)
        inner.send(Sender)
        await asyncio.sleep(0.02)

    async def second(**kwargs):
        await asyncio.sleep(0.03)

    signal.connect(first)
    signal.connect(second)
    asyncio.run(signal.asend(Sender))
    stats = {each.name.rpartition(".")[2]: each for each in stats_of(signal).receivers}
    assert stats["first"].total - stats["first"].own >= 0.0099
    assert stats["second"].own == stats["second"].total


def test_own_time_in_recursion(signal):
    def recursive(depth, **kwargs):
        time.sleep(0.002)
        if depth:
            signal.send(Sender, depth=depth - 1)

    signal.connect(recursive)
    signal.send(Sender, depth=3)
    (stats,) = stats_of(signal).receivers
    assert stats.calls == 4
    assert 4 * 0.002 <= stats.own <= stats.longest
    assert stats.total >= stats.longest + (3 + 2 + 1) * 0.002


def test_own_time_after_an_error(signal, Signal):
    inner = Signal()
    inner.connect(slow)
    inner.connect(failing)

    def outer(**kwargs):
        with pytest.raises(ValueError, match="no"):
            inner.send(Sender)
        time.sleep(0.002)

    signal.connect(outer)
    signal.send(Sender)
    (stats,) = stats_of(signal).receivers
    assert 0.002 <= stats.own <= stats.total - 0.0099


def test_own_time_of_greenlets(run_python, implementation):
    pytest.importorskip("greenlet")
    output = run_python(GREENLETS.format(int(implementation == "python")))
    assert output.split() == ["True", "True"]


GREENLETS = """
import os, time
os.environ["ALTDISPATCH_PURE_PYTHON"] = "{}"
import greenlet
from altdispatch import Signal, monitoring

def first(**kwargs):
    other.switch()
    time.sleep(0.01)

def second(**kwargs):
    main.switch()
    time.sleep(0.02)

signals = [Signal(), Signal()]
signals[0].connect(first)
signals[1].connect(second)
main = greenlet.getcurrent()
other = greenlet.greenlet(lambda: signals[1].send(None))
monitoring.enable()
signals[0].send(None)
other.switch()
for stats in monitoring.snapshot().signals:
    for receiver in stats.receivers:
        print(receiver.own == receiver.total)
"""


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_time_that_a_receiver_freezes(signal, is_async):
    """As freezegun and others do: they replace functions in all modules."""

    def frozen():
        return 10**19

    def freeze(**kwargs):
        real = time.perf_counter_ns, time.time_ns, time.perf_counter
        for module in [*sys.modules.values()]:
            for name, value in [*getattr(module, "__dict__", {}).items()]:
                if any(value is each for each in real):
                    patch.setattr(module, name, frozen)

    async def freeze_async(**kwargs):
        freeze()

    signal.connect(freeze_async if is_async else freeze)
    # pytest, too, takes the time with these functions: it gets them back at once.
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(3):
            assert send("asend", signal)[0][1] is None
    (stats,) = stats_of(signal).receivers
    assert (stats.calls, stats.total < 60) == (3, True)


def test_time_between_receivers_while_monitoring_is_off(signal):
    """It is none of the receiver's that is called after it was turned on again."""

    def turn_off(nested=False, **kwargs):
        if not nested:
            monitoring.disable()

    def turn_on(nested=False, **kwargs):
        if not nested:
            time.sleep(0.5)
            monitoring.enable()
            signal.send(Sender, nested=True)

    def last(**kwargs):
        pass

    for each in (turn_off, turn_on, last):
        signal.connect(each)
    monitoring.enable()
    signal.send(Sender)
    counts = {each.name.split(".")[-1]: each for each in stats_of(signal).receivers}
    assert counts["last"].calls == 2
    assert counts["last"].longest < 0.4
