from __future__ import annotations

import gc
import sys
import weakref

import pytest

from altdispatch.releases import RELEASE

from ..implementations import COUNTS_REFERENCES

pytestmark = pytest.mark.monitored


class Sender:
    pass


class Holder:
    def method(self, **kwargs):
        return "method"

    def __call__(self, **kwargs):
        return "callable"


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def caching(request):
    return request.param


def make_function():
    def function(**kwargs):
        return "function"

    return function


lasting = make_function()

RECEIVERS = {
    "function": lambda: (make_function(),) * 2,
    "method": lambda: (holder := Holder(), holder.method),
    "callable": lambda: (Holder(),) * 2,
}

USES = {
    "send": lambda signal: signal.send(Sender),
    "send_robust": lambda signal: signal.send_robust(Sender),
    "has_listeners": lambda signal: signal.has_listeners(Sender),
    "connect": lambda signal: signal.connect(lasting, sender=int),
    "disconnect": lambda signal: signal.disconnect(len),
    "_live_receivers": lambda signal: signal._live_receivers(Sender),
}


@pytest.mark.parametrize("make", RECEIVERS.values(), ids=RECEIVERS)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("sent_before", [False, True])
def test_dead_receiver_is_dropped_by_the_next_use(
    assert_same, caching, make, use, sent_before
):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        owner, receiver = make()
        signal.connect(receiver, sender=Sender)
        lengths = [len(signal.send(Sender))] if sent_before else []
        del owner, receiver
        gc.collect()
        flagged = signal._dead_receivers
        lengths.append(len(signal.receivers))
        use(signal)
        lengths.append(len(signal.receivers))
        return flagged, lengths, signal._dead_receivers, signal.send(Sender)

    flagged, lengths, still_flagged, answers = assert_same(scenario)
    assert flagged
    assert lengths[-2:] == [1, 0] or use is USES["connect"]
    assert not still_flagged
    assert answers == []


def test_dead_receivers_among_others(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receivers = [make_function() for _ in range(200)]
        senders = [None, Sender, Holder]
        for number in range(200):
            signal.connect(receivers[number], sender=senders[number % 3])
        order = [entry[0] for entry in signal.receivers]
        seen = []
        for dying in (1, 0, 0, 150, 20, 20, 20):
            del receivers[dying]
            answers = signal.send(Sender)
            seen.append((len(answers), [order.index(e[0]) for e in signal.receivers]))
            connected = signal.disconnect(receivers[5], sender=senders[0])
            seen.append((connected, len(signal.receivers)))
        return seen

    assert len(assert_same(scenario)) == 14


def test_strongly_connected_receiver_lives(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receiver = make_function()
        reference = weakref.ref(receiver)
        signal.connect(receiver, weak=False)
        del receiver
        gc.collect()
        answers = [answer for _, answer in signal.send(Sender)]
        lives = reference() is not None
        signal.disconnect(reference())
        gc.collect()
        return answers, lives, reference() is None

    assert assert_same(scenario) == (["function"], True, True)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_dead_sender(assert_same, caching, use):
    """From 6.0 its receivers are dropped; before, nobody notices."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receiver = make_function()
        sender = Holder()
        signal.connect(receiver, sender=sender)
        signal.connect(receiver, sender=int)
        signal.send(sender)
        del sender
        gc.collect()
        lengths = [len(signal.receivers)]
        use(signal)
        lengths.append(len([e for e in signal.receivers if e[0][1] != id(int)]))
        return lengths

    before, after = assert_same(scenario)
    assert before == 2
    if use is not USES["connect"]:
        assert after == (0 if RELEASE >= (6, 0) else 1)


def test_entries_of_the_release(assert_same, caching):
    """What each entry is made of, and by what a death is noticed."""
    sender, receiver, holder = Holder(), make_function(), Holder()

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(receiver)
        signal.connect(receiver, sender=sender)
        signal.connect(holder.method, sender=7)
        signal.connect(holder, sender=sender, weak=False)
        return [
            (
                type(entry),
                len(entry),
                [type(part) for part in entry],
                [
                    (part.__callback__.__name__, part.__callback__.__self__ is signal)
                    for part in entry[1 if RELEASE >= (6, 1) else 2 :]
                    if type(part) is weakref.ref and part.__callback__
                ],
                entry[-1],
            )
            for entry in signal.receivers
        ]

    entries = assert_same(scenario)
    assert {length for _, length, *_ in entries} == {4 if RELEASE >= (6, 0) else 3}
    flags = [flag for *_, callbacks, _ in entries for flag in callbacks]
    assert len(flags) == {(5, 2): 0, (6, 0): 2, (6, 1): 4}[RELEASE]


def test_what_a_signal_keeps_alive(assert_same, caching):
    """And itself; but on 5.2 and 6.0, where stock Django keeps it too long."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receivers = [make_function() for _ in range(3)]
        senders = [Holder() for _ in range(3)]
        for receiver, sender in zip(receivers, senders, strict=True):
            signal.connect(receiver, sender=sender)
            signal.connect(receiver)
        for sender in senders:
            signal.send(sender)
            signal.send_robust(sender)
            signal.has_listeners(sender)
        things = [weakref.ref(one) for one in (*receivers, *senders)]
        if RELEASE >= (6, 1):
            things.append(weakref.ref(signal))
        seen = []

        def look():
            gc.collect()
            if not COUNTS_REFERENCES:
                # What finalizers let go of waits for another one.
                gc.collect()
            seen.append([thing() is not None for thing in things])

        del sender, senders[0]
        look()
        del receiver, receivers[1]
        look()
        del signal
        look()
        senders.clear()
        look()
        receivers.clear()
        look()
        return seen

    *_, last = assert_same(scenario)
    assert last == [False] * (7 if RELEASE >= (6, 1) else 6)


@pytest.mark.monitored(False)  # tests/monitoring has its own.
def test_million_short_lived_senders_leave_nothing(Signal, caching):
    """Of ours alone: what stock does is not to be exceeded, and that is nothing.

    Signals that don't cache keep nothing of a sender: they get a tenth as many.
    """
    signal = Signal(use_caching=caching)
    receivers = [make_function() for _ in range(3)]
    signal.connect(receivers[0])
    signal.connect(receivers[1], sender=Sender)
    kept = Holder()
    signal.connect(receivers[2], sender=kept)

    def count():
        gc.collect()
        return len(gc.get_objects()), len(signal.sender_receivers_cache)

    for _ in range(100):
        signal.send(Holder())
    before = count()
    for _ in range(1_000_000 if caching else 100_000):
        signal.send(Holder())
    after = count()
    assert after[1] == before[1]
    assert after[0] - before[0] < 50


@pytest.mark.monitored(False)
@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="lists stay plain without counts"
)
def test_receivers_that_come_and_go_leave_nothing(Signal, caching):
    """Though a hundred others stay.

    What the index remembers of those that went is cleared every 300 of them.
    """
    signal = Signal(use_caching=caching)
    stay = [make_function() for _ in range(100)]
    for stays in stay:
        signal.connect(stays)
    goes = make_function()
    for _ in range(10_000):
        signal.connect(goes, sender=Sender)
        signal.send(Sender)
        signal.disconnect(goes, sender=Sender)
    memory = signal.receivers.memory
    assert type(memory) is int or len(memory.gone) <= 300
    assert [answer for _, answer in signal.send(Sender)] == ["function"] * 100


@pytest.mark.parametrize("strong_first", [False, True])
@pytest.mark.parametrize("edit", ["clear", "pop all", "slice"])
def test_order_in_which_an_edit_drops_entries(assert_same, caching, strong_first, edit):
    """Whether a death is noticed depends on which entry goes first."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receiver = make_function()
        for sender in (Sender, Holder):
            signal.connect(receiver, sender, weak=(sender is Sender) != strong_first)
        signal.has_listeners(int)
        del receiver
        if edit == "clear":
            signal.receivers.clear()
        elif edit == "slice":
            del signal.receivers[:]
        else:
            while signal.receivers:
                signal.receivers.pop()
        # Stock Django before 6.1 notices it also where the entry has gone before.
        is_noticed = RELEASE >= (6, 1) and signal._dead_receivers
        return is_noticed, signal.receivers, signal.has_listeners(Sender)

    assert assert_same(scenario)[1:] == ([], False)


def test_receiver_that_is_reborn_at_the_same_address(assert_same, caching):
    """A new receiver with the id of a dead one is another receiver."""
    # Without counts, each takes a garbage collection.
    times = 50 if COUNTS_REFERENCES else 10

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        answers = []
        for number in range(times):

            def receiver(number=number, **kwargs):
                return number

            signal.connect(receiver, sender=Sender)
            answers.append([answer for _, answer in signal.send(Sender)])
            del receiver
            if not COUNTS_REFERENCES:
                gc.collect()
        return answers

    assert assert_same(scenario) == [[number] for number in range(times)]
