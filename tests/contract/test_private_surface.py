from __future__ import annotations

import copy
import pickle
import sys
import threading
import weakref
from unittest import mock

import django.dispatch
import pytest
from django.db.models.signals import ModelSignal, post_save
from django.dispatch import dispatcher

from altdispatch.releases import RELEASE, WATCHES_SENDERS

#: On stock Django. With altdispatch, weak references report deaths on all releases.
FINALIZERS_REPORT = RELEASE < (6, 1)


class Sender:
    pass


class Other:
    pass


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def caching(request):
    return request.param


def make_receivers(count):
    return [lambda number=number, **kwargs: number for number in range(count)]


def responses(signal, sender=Sender):
    return [answer for _, answer in signal.send(sender)]


def test_attributes(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        return (
            list(vars(signal)),
            signal.receivers == [],
            isinstance(signal.receivers, list),
            repr(signal.receivers),
            type(signal.lock),
            signal.lock.locked(),
            signal.use_caching,
            type(signal.sender_receivers_cache),
            signal._dead_receivers,
        )

    assert assert_same(scenario)[0] == [
        "receivers",
        "lock",
        "use_caching",
        "sender_receivers_cache",
        "_dead_receivers",
    ]


def test_use_caching_keeps_the_given_value(assert_same):
    def scenario(Signal):
        return [Signal(given).use_caching for given in (1, "", None)]

    assert assert_same(scenario) == [1, "", None]


def test_cache_is_filled_as_by_stock(assert_same, caching):
    receivers = make_receivers(2)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        cache = signal.sender_receivers_cache
        states = []

        def record():
            states.append(
                [
                    cache.get(sender) is dispatcher.NO_RECEIVERS
                    or [route[0]() for route in cache.get(sender) or []]
                    for sender in (Sender, Other)
                ]
            )
            states.append((len(cache), len(cache.copy())))

        record()
        signal.send(Sender)
        record()
        signal.connect(receivers[0], sender=Sender)
        record()
        signal.send(Sender)
        signal.has_listeners(Other)
        record()
        signal.connect(receivers[1])
        record()
        signal.send(Other)
        record()
        signal.disconnect(receivers[1])
        record()
        return states

    states = assert_same(scenario)
    assert states[6] == ([[receivers[0]], True] if caching else [[], []])


@pytest.mark.parametrize("marker", [dispatcher.NO_RECEIVERS, []], ids=["none", "list"])
def test_cache_entries_written_by_a_program_are_used(assert_same, caching, marker):
    (receiver,) = make_receivers(1)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(receiver)
        signal.sender_receivers_cache[Sender] = marker
        return responses(signal), signal.has_listeners(Sender), responses(signal, Other)

    assert assert_same(scenario)[2] == [0]


@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
def test_cache_of_another_type(assert_same, caching, how):
    (receiver,) = make_receivers(1)

    class Cache(dict):
        def get(self, key, default=None):
            looked_up.append(key)
            return super().get(key, default)

    def scenario(Signal):
        looked_up.clear()
        signal = Signal(use_caching=caching)
        signal.connect(receiver)
        signal.sender_receivers_cache = Cache()
        for sender in (Sender, Sender, Other):
            getattr(signal, how)(sender)
        signal.sender_receivers_cache = weakref.WeakKeyDictionary()
        getattr(signal, how)(Sender)
        return looked_up[:], list(signal.sender_receivers_cache)

    looked_up = []
    assert_same(scenario)
    assert looked_up or (how == "has_listeners" and not caching)


def test_send_waits_for_the_lock(assert_same):
    """A send waits for the lock, unless the sender is in the signal's cache."""
    (receiver,) = make_receivers(1)

    def scenario(Signal):
        waited = []
        for caching in (False, True):
            signal = Signal(use_caching=caching)
            signal.connect(receiver)
            signal.send(Sender)
            signal.send(Sender)
            sent = threading.Event()

            def send(signal=signal, sent=sent):
                signal.send(Sender)
                sent.set()

            thread = threading.Thread(target=send)
            with signal.lock:
                thread.start()
                # The send takes no lock if the signal is caching, so it ends.
                # Without caching it can't end while the lock is held.
                waited.append(not sent.wait(60 if caching else 0.3))
            thread.join()
        return waited

    assert assert_same(scenario) == [True, False]


@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock])
def test_lock_replaced(assert_same, caching, make_lock):
    (receiver,) = make_receivers(1)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.lock = make_lock()
        signal.connect(receiver)
        return responses(signal), responses(signal), signal.disconnect(receiver)

    assert assert_same(scenario) == ([0], [0], True)


def test_reentrant_lock_held_during_a_send(assert_same):
    (receiver,) = make_receivers(1)

    def scenario(Signal):
        signal = Signal()
        signal.lock = threading.RLock()
        signal.connect(receiver)
        with signal.lock:
            return responses(signal), responses(signal)

    assert assert_same(scenario) == ([0], [0])


# Replace `receivers`.


def test_receivers_muted_and_put_back(assert_same, caching):
    """Replace `receivers` for a while, as factory_boy's mute_signals() does."""
    receivers = make_receivers(4)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        for receiver in receivers[:3]:
            signal.connect(receiver, sender=Sender)
        seen = [responses(signal)]
        saved = signal.receivers
        signal.receivers = []
        seen.append(responses(signal))
        seen.append(signal.has_listeners(Sender))
        signal.connect(receivers[3])
        seen.append(responses(signal))
        signal.receivers = saved + signal.receivers
        with signal.lock:
            signal.sender_receivers_cache.clear()
        seen.append(responses(signal))
        seen.append(type(saved + signal.receivers))
        seen.append(signal.disconnect(receivers[1], sender=Sender))
        seen.append(responses(signal))
        return seen

    assert assert_same(scenario)[4] == [0, 1, 2, 3]


def test_receivers_shared_by_two_signals(assert_same, caching):
    receivers = make_receivers(3)

    def scenario(Signal):
        one, two = Signal(use_caching=caching), Signal(use_caching=caching)
        one.connect(receivers[0])
        two.receivers = one.receivers
        seen = [responses(two)]
        one.connect(receivers[1])
        two.connect(receivers[2], sender=Sender)
        for signal in (one, two):
            signal.sender_receivers_cache.clear()
            seen.append(responses(signal))
        one.disconnect(receivers[0])
        two.sender_receivers_cache.clear()
        seen.append(responses(two))
        return seen, one.receivers is two.receivers

    assert assert_same(scenario)[1] is True


def test_list_assigned_by_a_program(assert_same, caching):
    """The signal uses the list that a program assigned, and sees edits of it."""
    receivers = make_receivers(3)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        assigned = []
        signal.receivers = assigned
        seen = [signal.receivers is assigned]
        for receiver in receivers:
            signal.connect(receiver)
        seen.append((signal.receivers is assigned, len(assigned)))
        seen.append(responses(signal))
        assigned.reverse()
        signal.sender_receivers_cache.clear()
        seen.append(responses(signal))
        seen.append(signal.disconnect(receivers[1]))
        seen.append((signal.receivers is assigned, len(assigned)))
        return seen

    assert assert_same(scenario)[0] is True


def test_receivers_of_another_type(assert_same):
    """A signal sends to receivers in a tuple, but can't connect to it."""
    receiver, other = make_receivers(2)

    def scenario(Signal):
        signal = Signal()
        signal.connect(receiver)
        signal.receivers = tuple(signal.receivers)
        seen = [responses(signal), responses(signal)]
        try:
            signal.connect(other)
        except AttributeError as error:
            seen.append(str(error))
        signal.receivers = None
        return seen, responses(signal)

    assert assert_same(scenario)[1] == []


# Edit `receivers` in place.

EDITS = {
    "append": lambda entries: entries.append(entries[0]),
    "insert": lambda entries: entries.insert(0, entries.pop()),
    "remove": lambda entries: entries.remove(entries[1]),
    "pop": lambda entries: entries.pop(1),
    "sort": lambda entries: entries.sort(key=lambda entry: -entry[1]()()),
    "reverse": lambda entries: entries.reverse(),
    "clear": lambda entries: entries.clear(),
    "extend": lambda entries: entries.extend(entries[:2]),
    "set item": lambda entries: entries.__setitem__(0, entries[2]),
    "set slice": lambda entries: entries.__setitem__(slice(0, 2), entries[2:]),
    "del item": lambda entries: entries.__delitem__(0),
    "del slice": lambda entries: entries.__delitem__(slice(1, None)),
    "+=": lambda entries: entries.__iadd__(entries[1:]),
    "*=": lambda entries: entries.__imul__(2),
    "init": lambda entries: entries.__init__(entries[1:]),
    "failing sort": lambda entries: entries.sort(key=lambda entry: entry.nothing),
    "failing pop": lambda entries: entries.pop(99),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("clear_cache", [False, True])
def test_receivers_edited_in_place(assert_same, caching, edit, clear_cache):
    """The next send sees an edit exactly if it does on stock Django.

    A caching signal doesn't see it for a sender in its cache.
    """
    receivers = make_receivers(4)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        for receiver in receivers:
            signal.connect(receiver, sender=Sender)
        seen = [responses(signal), responses(signal)]
        try:
            seen.append(edit(signal.receivers) is signal.receivers)
        except (IndexError, AttributeError) as error:
            seen.append(repr(error))
        if clear_cache:
            signal.sender_receivers_cache.clear()
        seen.append(responses(signal))
        seen.append(signal.disconnect(receivers[2], sender=Sender))
        seen.append(signal.disconnect(receivers[0], sender=Sender))
        signal.connect(receivers[0], sender=Sender)
        seen.append([entry[1]()() for entry in signal.receivers])
        seen.append(responses(signal))
        return seen

    seen = assert_same(scenario)
    assert seen[0] == [0, 1, 2, 3]


INVALID_ENTRIES = {
    "too short": (("key", 1),),
    "no tuple": 5,
    "key of three": (("a", "b", "c"), len, None, False)[: 4 if WATCHES_SENDERS else 3],
}


@pytest.mark.parametrize("entry", INVALID_ENTRIES.values(), ids=INVALID_ENTRIES)
@pytest.mark.parametrize("how", ["send", "connect", "disconnect", "has_listeners"])
def test_invalid_entry_in_receivers(assert_same, caching, entry, how):
    receivers = make_receivers(2)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(receivers[0])
        responses(signal)
        signal.receivers.append(entry)
        try:
            outcome = getattr(signal, how)(receivers[1] if "connect" in how else Other)
        except Exception as error:
            outcome = type(error), str(error)
        signal.receivers.remove(entry)
        return outcome, signal.lock.locked(), responses(signal, int)

    assert assert_same(scenario)[1] is False


# Read `receivers`.


def test_receivers_read(assert_same, caching):
    """Read `receivers` as debug-toolbar's signals panel and other packages do."""
    receivers = make_receivers(3)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        for receiver in receivers:
            signal.connect(receiver, sender=Sender)
        rows = []
        for entry in signal.receivers:
            receiver = entry[1]
            if isinstance(receiver, weakref.ReferenceType):
                receiver = receiver()
            rows.append(receivers.index(receiver))
        (*_, last), copied = signal.receivers, list(signal.receivers)
        return (
            rows,
            len(signal.receivers),
            bool(signal.receivers),
            last is copied[-1],
            signal.receivers == copied,
            copied == signal.receivers,
            signal.receivers != copied,
            type(signal.receivers[:]),
            type(signal.receivers.copy()),
            type(copy.copy(signal.receivers)),
            type(signal.receivers * 2),
            copied[0] in signal.receivers,
            signal.receivers.index(copied[2]),
            signal.receivers.count(copied[1]),
            [
                entry is other
                for entry, other in zip(signal.receivers, copied, strict=True)
            ],
            repr(signal.receivers)[:3],
        )

    assert assert_same(scenario)[0] == [0, 1, 2]


def test_live_receivers_returns_new_lists(assert_same, caching):
    """Every call returns new lists: Sentry wraps each receiver in place."""
    receivers = make_receivers(2)

    async def async_receiver(**kwargs):
        pass

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        seen = []
        for connected in (*receivers, async_receiver):
            signal.connect(connected, sender=Sender)
            for sender in (Sender, Sender, Other, Other):
                first, second = (signal._live_receivers(sender) for _ in range(2))
                seen.append(
                    (
                        type(first),
                        [type(part) for part in first],
                        first == second,
                        [a is b for a in first for b in second],
                        [len(part) for part in first],
                    )
                )
                for part in first:
                    part[:] = [None]
        return seen

    seen = assert_same(scenario)
    assert [lengths for *_, lengths in seen][-3:] == [[2, 1], [0, 0], [0, 0]]


# Patch methods.

METHODS = ["send", "send_robust", "has_listeners"]


def call_method(signal, how, sender=Sender):
    result = getattr(signal, how)(sender)
    return result if how == "has_listeners" else [response for _, response in result]


@pytest.mark.parametrize("where", ["class", "subclass", "instance"])
@pytest.mark.parametrize("how", METHODS)
def test_patched_live_receivers(assert_same, caching, where, how):
    """Patch `_live_receivers` on a class, as Sentry does, and on an instance, as tests
    do.
    """
    receivers = make_receivers(3)

    def scenario(Signal):
        subclass = type("Subclass", (type("Signal", (Signal,), {}),), {})
        signal, other = subclass(use_caching=caching), subclass(use_caching=caching)
        for receiver in receivers:
            signal.connect(receiver)
            other.connect(receiver)
        target = {"class": subclass.__bases__[0], "subclass": subclass}.get(
            where, signal
        )
        original = target._live_receivers

        def replacement(*args):
            seen.append(len(args))
            sync_receivers, async_receivers = original(*args)
            return [lambda **kwargs: "wrapped", *sync_receivers[1:]], async_receivers

        seen = [call_method(signal, how), call_method(signal, how)]
        with mock.patch.object(target, "_live_receivers", replacement):
            seen += [
                call_method(signal, how),
                call_method(signal, how),
                call_method(other, how),
            ]
        return [*seen, call_method(signal, how), call_method(other, how)]

    assert assert_same(scenario)[2] == (1 if where == "instance" else 2)


@pytest.mark.parametrize("where", ["class", "instance"])
@pytest.mark.parametrize(
    "method",
    [
        "_live_receivers",
        "_clear_dead_receivers",
        "_log_robust_failure",
        "send",
        "connect",
        "_flag_dead_receivers" if WATCHES_SENDERS else "_remove_receiver",
    ],
)
def test_method_patched_with_a_mock(assert_same, caching, where, method):
    """A mock is called as often, and with the same types, as on stock Django."""

    def scenario(Signal):
        Signal = type("Subclass", (Signal,), {})
        signal = Signal(use_caching=caching)

        def fails(**kwargs):
            raise ValueError("this")

        def other(**kwargs):
            pass

        signal.connect(fails)
        signal.send_robust(Sender)
        signal.send_robust(Sender)
        original = getattr(signal, method)
        target = signal if where == "instance" else Signal
        with mock.patch.object(target, method, side_effect=original) as replacement:
            signal.send_robust(Sender)
            signal.has_listeners(Other)
            for _ in range(2):
                with pytest.raises(ValueError, match="this"):
                    signal.send(Sender)
            signal.connect(other)
            if not FINALIZERS_REPORT:
                signal.disconnect(other)
            del other
            signal.connect(Sender, sender=Other)
        return [
            ([type(arg) for arg in call.args if not isinstance(arg, weakref.ref)])
            for call in replacement.call_args_list
        ]

    calls = assert_same(scenario)
    assert calls or "flag" in method or "remove" in method


@pytest.mark.parametrize("where", ["class", "instance"])
def test_patch_without_a_hash(assert_same, caching, where):
    class Unhashable:
        __hash__ = None

        def __call__(self, *args):
            return [lambda **kwargs: "replaced"], []

    def scenario(Signal):
        Signal = type("Subclass", (Signal,), {})
        signal = Signal(use_caching=caching)
        signal.connect(scenario)
        signal.has_listeners(Sender)
        target = Signal if where == "class" else signal
        with mock.patch.object(target, "_live_receivers", Unhashable()):
            seen = responses(signal)
        with mock.patch.object(target, "_clear_dead_receivers", Unhashable()):
            seen.append(signal.has_listeners(Sender))
        return seen

    assert assert_same(scenario) == ["replaced", True]


@pytest.mark.usefixtures("swapped")
def test_patched_send():
    """A patch of `send` works on the base class, a subclass and an instance."""
    with mock.patch("django.dispatch.dispatcher.Signal.send", return_value="mock"):
        assert post_save.send(Sender) == "mock"
        assert django.dispatch.Signal().send(Sender) == "mock"
    assert post_save.send(Sender) == []
    with mock.patch.object(ModelSignal, "send", return_value="mock", create=True):
        assert post_save.send(Sender) == "mock"
        assert django.dispatch.Signal().send(Sender) == []
    with mock.patch.object(post_save, "send", return_value="mock"):
        assert post_save.send(Sender) == "mock"
    assert post_save.send(Sender) == []
    assert "send" not in vars(ModelSignal)


# Override methods in subclasses.


def test_subclass_that_overrides_and_calls_super(assert_same, caching):
    def scenario(Signal):
        log = []

        class Subclass(Signal):
            def connect(self, receiver, *args, **kwargs):
                log.append("connect")
                return super().connect(receiver, *args, **kwargs)

            def disconnect(self, *args, **kwargs):
                log.append("disconnect")
                return super().disconnect(*args, **kwargs)

            def send(self, sender, **named):
                log.append("send")
                return super().send(sender, **{**named, "added": True})

            def _live_receivers(self, sender):
                log.append("_live_receivers")
                sync_receivers, async_receivers = super()._live_receivers(sender)
                return sync_receivers[::-1], async_receivers

            def _log_robust_failure(self, receiver, err):
                log.append(repr(err))

        signal = Subclass(use_caching=caching)
        receivers = make_receivers(3)

        def fails(**kwargs):
            raise ValueError(kwargs.get("added"))

        for receiver in (*receivers, fails):
            signal.connect(receiver, Sender)
        seen = [
            [repr(response) for _, response in signal.send_robust(Sender)],
            signal.has_listeners(Sender),
            signal.disconnect(fails, Sender),
            [response for _, response in signal.send(Sender)],
            [response for _, response in signal.send(Sender)],
        ]
        return seen, log

    assert assert_same(scenario)[0][-1] == [2, 1, 0]


def test_subclass_without_init(assert_same):
    """A subclass may set the attributes in its own `__init__`, as pretix's does."""
    (receiver,) = make_receivers(1)

    def scenario(Signal):
        class Subclass(Signal):
            def __init__(self):
                self.receivers = []
                self.lock = threading.Lock()
                self.use_caching = True
                self.sender_receivers_cache = {}
                self._dead_receivers = False

        signal = Subclass()
        signal.connect(receiver)
        return responses(signal), responses(signal), len(signal.sender_receivers_cache)

    assert assert_same(scenario) == ([0], [0], 1)


def test_subclass_with_a_receivers_property(assert_same, caching):
    receivers = make_receivers(2)

    def scenario(Signal):
        class Subclass(Signal):
            @property
            def receivers(self):
                return vars(self).setdefault("kept", [])

            @receivers.setter
            def receivers(self, value):
                vars(self)["kept"] = value

        signal = Subclass(use_caching=caching)
        for receiver in receivers:
            signal.connect(receiver, sender=Sender)
        seen = [
            responses(signal),
            responses(signal),
            signal.disconnect(receivers[0], Sender),
        ]
        return seen, responses(signal), list(vars(signal))

    assert assert_same(scenario)[1] == [1]


# Patch names in Django's module.


def test_patched_make_id(assert_same, caching):
    """Two senders can share an id, as in Django's own tests."""
    receivers = make_receivers(2)
    original = dispatcher._make_id

    def make_id(target):
        return 0 if isinstance(target, Sender) else original(target)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(receivers[1], sender=Other)
        seen = [responses(signal, Other), responses(signal, Sender())]
        with mock.patch("django.dispatch.dispatcher._make_id", make_id):
            one, two = Sender(), Sender()
            signal.connect(receivers[0], sender=one)
            for _ in range(2):
                seen += [responses(signal, one), responses(signal, two)]
            seen.append([entry[0][1] == 0 for entry in signal.receivers])
        signal.sender_receivers_cache.clear()
        return [*seen, responses(signal, one), responses(signal, Other)]

    assert assert_same(scenario)[2:4] == [[0], [0]]


@pytest.mark.parametrize(
    "name",
    [
        "func_accepts_kwargs",
        "iscoroutinefunction",
        "logger",
        "async_to_sync",
        "sync_to_async",
    ],
)
def test_other_patched_names(assert_same, name, settings):
    settings.DEBUG = True

    def scenario(Signal):
        signal = Signal()

        def fails(**kwargs):
            raise ValueError("this")

        async def asynchronous(**kwargs):
            return "answer"

        with mock.patch.object(
            dispatcher, name, wraps=getattr(dispatcher, name)
        ) as replacement:
            for receiver in (fails, asynchronous):
                signal.connect(receiver)
            signal.send_robust(Sender)
            dispatcher.async_to_sync(signal.asend_robust)(Sender)
        return len(replacement.mock_calls)

    assert assert_same(scenario)


def test_module_keeps_its_names(assert_same_swapped):
    names = assert_same_swapped(
        lambda: {name: id(value) for name, value in vars(dispatcher).items()}
    )
    assert names["NONE_ID"] == id(dispatcher.NONE_ID)


# Copy and pickle.


def test_copy_shares_the_receivers(assert_same, caching):
    receivers = make_receivers(3)

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(receivers[0])
        duplicate = copy.copy(signal)
        seen = [
            type(duplicate) is Signal,
            [vars(duplicate)[name] is value for name, value in vars(signal).items()],
        ]
        duplicate.connect(receivers[1])
        seen.append([responses(signal), responses(duplicate)])
        signal.disconnect(receivers[0])
        seen.append([responses(signal), responses(duplicate)])
        duplicate.receivers = []
        seen.append([responses(signal), responses(duplicate)])
        return seen

    assert assert_same(scenario)[1] == [True] * 5


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("how", [copy.deepcopy, pickle.dumps])
def test_other_copies_fail(assert_same, caching, how, strong):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(len, weak=False) if strong else signal.connect(make_receivers)
        return how(signal)

    # PyPy's locks raise PicklingError.
    assert assert_same(scenario)[0] in (TypeError, pickle.PicklingError)


def test_copied_and_pickled_receivers_are_plain_lists(assert_same):
    def scenario(Signal):
        signal = Signal()
        signal.connect(len, weak=False)
        copies = [
            copy.deepcopy(signal.receivers),
            pickle.loads(pickle.dumps(signal.receivers)),
            pickle.loads(pickle.dumps(signal.receivers, protocol=0)),
        ]
        return [(type(one), one == signal.receivers) for one in copies]

    assert assert_same(scenario) == [(list, True)] * 3


@pytest.mark.skipif(FINALIZERS_REPORT, reason="altdispatch makes other references")
@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="its WeakKeyDictionary makes other calls"
)
def test_weakref_patched(assert_same, caching):
    """connect() looks up `weakref.ref` in its module: Django's own tests patch it."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        with mock.patch("weakref.ref") as ref:
            signal.connect(make_receivers, sender=Signal)
            called = ref.call_count
            signal.send(Signal)
            signal.has_listeners(Signal)
            seen = called, ref.call_count, signal.disconnect(make_receivers, Signal)
        return seen

    assert assert_same(scenario)[0] > 0


@pytest.mark.parametrize("depth", [1, 3, 4, 5, 6, 7, 8, 50, 5000])
def test_dispatch_uid_of_nested_tuples(assert_same, caching, depth):
    def scenario(Signal):
        def uid():
            nested = "uid"
            for _ in range(depth):
                nested = (nested,)
            return nested

        signal = Signal(use_caching=caching)
        one = uid()
        for _ in range(2):
            signal.connect(make_receivers, dispatch_uid=one, sender=Signal)
        other = uid() if depth < 100 else one
        seen = len(signal.receivers), signal.has_listeners(Signal)
        return *seen, signal.disconnect(sender=Signal, dispatch_uid=other)

    assert assert_same(scenario) == (1, True, True)
