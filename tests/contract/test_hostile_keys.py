"""Keys, attribute names and lists that run the program's code while they are read."""

from __future__ import annotations

import gc
import logging
import uuid

import pytest

from .hostile import CACHING, Receiver, Sender, needs_counts, responses


@CACHING
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
def test_comparison_that_removes_all_receivers(assert_same, caching, how):
    """The cached sender has the same hash, so it is compared with the new one."""

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
    """A key of a namespace that isn't a string but may equal one."""

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
def test_attribute_names_that_are_not_strings(assert_same, caching, text):
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
            seen.append((responses(signal), signal.has_listeners(Sender)))
        return seen

    assert assert_same(scenario) == [(["called"], True)] * 3


@CACHING
def test_patch_under_a_name_that_is_not_interned(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(Receiver(), weak=False)
        signal.send(Sender)
        name = "".join(["_live_", "receivers"])
        vars(signal)[name] = lambda sender: ([lambda **kwargs: "patched"], [])
        return responses(signal), responses(signal)

    assert assert_same(scenario) == (["patched"], ["patched"])


@CACHING
@pytest.mark.parametrize("count", [5, 100])
@pytest.mark.parametrize("what", ["raises", "equals"])
def test_dispatch_uid_whose_class_gets_an_eq_later(assert_same, caching, count, what):
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
            signal.disconnect(dispatch_uid="unknown")
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
            seen.append(responses(signal))
            seen.append(signal.disconnect(dispatch_uid=uid))
            seen.append(signal.disconnect(dispatch_uid=uid))
            signal.connect(receivers[5], dispatch_uid="other")
            seen.append(signal.disconnect(receivers[5]))
            signal.connect(receivers[5])
            signal.disconnect(dispatch_uid="other")
            seen.append(responses(signal))
        return seen

    assert_same(scenario)


@needs_counts
@CACHING
def test_finalizer_changes_a_shared_list_during_a_send(assert_same, caching):
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
def test_finalizer_shortens_a_list_while_it_is_indexed(assert_same, caching, use):
    """The 17th search builds the index, so the next use of the signal does."""

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
        # Later collections skip the objects that exist now.
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
def test_class_changed_thousands_of_times(assert_same, caching):
    """CPython runs out of version tags for the class."""

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


def test_truth_of_a_uid_is_asked_once(assert_same):
    def scenario(Signal):
        class Uid:
            asked = 0

            def __bool__(self):
                Uid.asked += 1
                return True

        uid, receiver, counts = Uid(), Receiver(), []
        signal = Signal()
        for use in signal.connect, signal.connect, signal.disconnect:
            use(receiver, dispatch_uid=uid)
            counts.append(Uid.asked)
        return counts

    assert_same(scenario)
