"""Random operations on a signal of Django's and one of ours, side by side.

Both get the same receivers and senders, so that every lookup key, too, must be the
same. After each step everything that can be seen of them is compared.

``make test`` runs a quick profile, ``make fuzz`` a long one.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import logging
import os
import threading
import time
import types
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from unittest import mock

import django.dispatch
import django.dispatch.dispatcher
import pytest
from asgiref.sync import sync_to_async
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from altdispatch.releases import RELEASE, SYNC_RECEIVERS_FIRST, WATCHES_SENDERS

from .implementations import COUNTS_REFERENCES, IMPLEMENTATIONS

NO_RECEIVERS = django.dispatch.dispatcher.NO_RECEIVERS
FLAG = "_flag_dead_receivers" if WATCHES_SENDERS else "_remove_receiver"

carried: ContextVar[str] = ContextVar("carried", default="nothing")


class Holder:
    """Has methods to connect, and can be called itself."""

    def __init__(self, log: list[Any], name: str) -> None:
        self.log = log
        self.name = name

    def method(self, **kwargs: Any) -> str:
        return note(self.log, self.name, kwargs)

    async def async_method(self, **kwargs: Any) -> str:
        return note(self.log, self.name, kwargs)

    __call__ = method


class Equal:
    """A sender that is equal to others of its kind."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 1


class AnyUid:
    """A ``dispatch_uid`` that is equal to a string, with another hash."""

    def __eq__(self, other: object) -> bool:
        return other == "first"

    def __hash__(self) -> int:
        return 7


def note(log: list[Any], name: str, kwargs: dict[str, Any]) -> str:
    log.append((name, list(kwargs), id(kwargs["sender"]), kwargs.get("value")))
    return f"{name} answers"


def make_receiver(kind: str, log: list[Any], name: str, others: list[Any]) -> Any:
    """Return a receiver and what has to live for it to live."""

    def function(**kwargs: Any) -> str:
        return note(log, name, kwargs)

    def failing(**kwargs: Any) -> None:
        note(log, name, kwargs)
        raise ValueError(f"{name} fails")

    def connecting(signal: Any, sender: Any, **kwargs: Any) -> None:
        note(log, name, {"sender": sender, **kwargs})
        if others:
            signal.connect(others[0], sender=sender)

    def disconnecting(signal: Any, sender: Any, **kwargs: Any) -> bool:
        note(log, name, {"sender": sender, **kwargs})
        return bool(others) and signal.disconnect(others[0], sender=sender)

    def nesting(signal: Any, sender: Any, **kwargs: Any) -> Any:
        note(log, name, {"sender": sender, **kwargs})
        if kwargs.get("depth", 0) > 1:
            return "deep enough"
        answers = signal.send(sender, depth=kwargs.get("depth", 0) + 1)
        return [answer for _, answer in answers]

    def choosy(sender: Any, signal: Any) -> str:
        return note(log, name, {"sender": sender})

    async def asynchronous(**kwargs: Any) -> str:
        await asyncio.sleep(0)
        carried.set(name)
        return note(log, name, kwargs)

    async def async_slow(**kwargs: Any) -> str:
        note(log, f"{name} finds {carried.get()}", kwargs)
        carried.set(name)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            note(log, f"{name} is cancelled", kwargs)
            raise
        return note(log, name, kwargs)

    async def async_failing(**kwargs: Any) -> None:
        note(log, name, kwargs)
        raise KeyError(name)

    async def async_failing_late(**kwargs: Any) -> None:
        note(log, name, kwargs)
        await asyncio.sleep(0)
        raise KeyError(name)

    async def async_cancelled(**kwargs: Any) -> None:
        note(log, name, kwargs)
        raise asyncio.CancelledError

    if kind in ("method", "async_method"):
        holder = Holder(log, name)
        return getattr(holder, kind), holder
    if kind == "callable":
        return Holder(log, name), None
    if kind == "partial":
        return functools.partial(function, extra=1), None
    return locals()[kind], None


#: What isn't an entry.
JUNK = [(), 1, ((1, 2), 3), ((1, 2, 3), 4, None, False), ([1, 2], 3, None, False)]

RECEIVER_KINDS = [
    "function",
    "function",
    "method",
    "callable",
    "partial",
    "failing",
    "connecting",
    "disconnecting",
    "nesting",
    "choosy",
    "asynchronous",
    "async_slow",
    "async_failing",
    "async_failing_late",
    "async_cancelled",
    "async_method",
]

SENDER_KINDS: dict[str, Callable[[], Any]] = {
    "class": lambda: type("Sender", (), {}),
    "instance": lambda: Holder([], "sender"),
    "object": object,
    "equal": Equal,
    "method": lambda: Holder([], "sender").method,
    "list": list,
    "number": lambda: 4711,
}

UIDS = [
    None,
    None,
    None,
    None,
    "first",
    "second",
    0,
    "",
    3,
    ("a", 1),
    AnyUid(),
    ["list"],
]

index = st.integers(0, 30)

# Where the search for what is held ends.
BOUNDARIES = type, types.ModuleType, RuleBasedStateMachine, weakref.ReferenceType


def seen(thing: Any) -> Any:
    """Return a value by which references of either side are told apart."""
    if isinstance(thing, weakref.ReferenceType):
        referent = thing()
        if isinstance(thing, weakref.WeakMethod) and referent is not None:
            referent = referent.__func__, referent.__self__
            return type(thing), id(referent[0]), id(referent[1])
        return type(thing), None if referent is None else id(referent)
    if hasattr(thing, "__self__") and hasattr(thing, "__func__"):
        return id(thing.__self__), id(thing.__func__)
    if isinstance(thing, (bool, str, int, tuple)):
        return thing
    return id(thing)


def seen_entry(entry: Any) -> Any:
    return [type(entry), *map(seen, entry)]


class Side:
    """A signal and what has been kept of it."""

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.saved: list[Any] = []
        self.log: list[Any] = []


class Machine(RuleBasedStateMachine):
    """Does everything twice; ``ours`` is set by the test."""

    ours: type

    def __init__(self) -> None:
        super().__init__()
        self.stock_class = type("Sub", (django.dispatch.Signal,), {})
        self.our_class = type("Sub", (self.ours,), {})
        self.sides: list[tuple[Side, Side]] = []
        self.log: list[Any] = []
        self.receivers: list[Any] = []
        self.holders: list[Any] = []
        self.senders: list[Any] = [None]
        self.released: list[weakref.ref[Any]] = []
        self.count = 0
        self.steps = 0
        self.failed = False
        self.records: list[logging.LogRecord] = []
        self.handler = logging.Handler()
        self.handler.emit = self.records.append  # type: ignore[method-assign]
        self.logger = logging.getLogger("django.dispatch")
        self.logger.addHandler(self.handler)
        self.logger.propagate = False
        # Collections then look only at what this run makes. None comes before: with all
        # tests imported, it would take most of a run's time.
        if hasattr(gc, "freeze"):  # Not on PyPy.
            gc.freeze()
        gc.disable()
        for caching in (False, True):
            self.add_sides(
                self.stock_class(use_caching=caching),
                self.our_class(use_caching=caching),
            )
        # Enough to begin with that most steps do something.
        for kind in ("function", "method", "function", "failing", "asynchronous"):
            self.new_receiver(kind)
        for kind in ("class", "class", "instance"):
            self.new_sender(kind)
        for pair in range(2):
            for number in range(3):
                self.connect(pair, number, number, True, None)
                self.connect(pair, number, (number + 1) % 3, True, None)

    def add_sides(self, stock: Any, ours: Any) -> None:
        self.sides.append((Side(stock), Side(ours)))

    def teardown(self) -> None:
        self.logger.removeHandler(self.handler)
        self.logger.propagate = True
        signals = []
        for side in (side for pair in self.sides for side in pair):
            signals.append(weakref.ref(side.signal))
            # Up to 6.0 a signal and a receiver that it holds can keep each other:
            # the finalizer of another connection keeps the signal.
            side.signal.receivers = []
            side.signal.sender_receivers_cache.clear()
        side = None
        things = [*self.receivers, *self.holders, *self.senders]
        left = [*signals, *self.released]
        for thing in things:
            with contextlib.suppress(TypeError):
                left.append(weakref.ref(thing))
        del things
        self.records.clear()
        self.sides.clear()
        self.receivers.clear()
        self.holders.clear()
        self.senders.clear()
        thing = None
        # Code that PyPy's JIT has compiled keeps some senders that are classes: with
        # `--jit off` they go. A few signals stay even then, on Django 5.2; what keeps
        # those is not known.
        all_gone = not COUNTS_REFERENCES or self.soon(
            lambda: all(ref() is None for ref in left)
        )
        gc.enable()
        if hasattr(gc, "unfreeze"):
            gc.unfreeze()
        assert self.failed or all_gone

    # Doing the same to both.

    def both(self, number: int, act: Callable[[Side], Any]) -> Any:
        """Let ``act`` happen to both sides of a pair, and compare what comes out."""
        pair = self.sides[number % len(self.sides)]
        self.notice_what_only_stock_does()
        # What only a signal holds is to die after both have acted: the one that
        # acts last is else the only one that notices.
        held = [reference() for reference in self.released]
        stock, ours = (self.outcome(side, act) for side in pair)
        held.clear()
        self.agree(ours == stock, ours, stock)
        return stock

    def both_and_probe(self, number: int, act: Callable[[Side], Any]) -> None:
        """Do the same, and every other time see what sends do afterwards.

        Not every time, as sends change what a signal has in its memory.
        """
        self.both(number, act)
        self.steps += 1
        if self.steps % 2:
            for sender in self.senders:
                for how in ("send", "send_robust", "has_listeners"):
                    self.both(number, functools.partial(self.use, how, sender))

    def use(self, how: str, sender: Any, side: Side) -> Any:
        answer = getattr(side.signal, how)(sender)
        return answer if how == "has_listeners" else self.seen_answers(answer)

    def agree(self, agreed: bool, *what: Any) -> None:
        self.failed = not agreed
        assert agreed, what

    def outcome(self, side: Side, act: Callable[[Side], Any]) -> Any:
        token = carried.set("nothing")
        try:
            result: Any = act(side)
        except (Exception, asyncio.CancelledError) as error:
            # Of a group, str() tells how many are in it.
            result = type(error), str(error).replace(hex(id(side)), "")
        happened = self.log[:]
        self.log.clear()
        logged = [(r.getMessage(), r.exc_info[0], r.levelno) for r in self.records]
        self.records.clear()
        if not SYNC_RECEIVERS_FIRST and getattr(act, "__name__", "") == "run_asend":
            # They run at once, in two threads. After an error in the one, what the
            # other comes to is chance, and so is which of two errors comes first.
            happened.sort(key=repr)
            logged.sort(key=repr)
            if isinstance(result[0], type):
                result = "an error"
                happened = [note for note in happened if "async" not in note[0]]
        if any("is cancelled" in note[0] for note in happened):
            # Those that wait are in a set.
            happened.sort(key=repr)
        context = carried.get()
        carried.reset(token)
        return result, happened, logged, context

    @staticmethod
    def seen_answers(answers: list[tuple[Any, Any]]) -> Any:
        return type(answers), [
            (type(pair), seen(pair[0]), repr(pair[1])) for pair in answers
        ]

    def receiver(self, number: int) -> Any:
        return self.receivers[number % len(self.receivers)]

    def sender(self, number: int) -> Any:
        return self.senders[number % len(self.senders)]

    # What there is to connect.

    @rule(kind=st.sampled_from(RECEIVER_KINDS))
    def new_receiver(self, kind: str) -> None:
        self.count += 1
        name = f"{kind} {self.count}"
        receiver, holder = make_receiver(kind, self.log, name, self.receivers[:1])
        self.receivers.append(receiver)
        self.holders.append(holder)

    @rule(kind=st.sampled_from(sorted(SENDER_KINDS)))
    def new_sender(self, kind: str) -> None:
        self.senders.append(SENDER_KINDS[kind]())

    @precondition(lambda self: self.receivers)
    @rule(number=index)
    def release_receiver(self, number: int) -> None:
        number %= len(self.receivers)
        receiver = self.receivers.pop(number)
        holder = self.holders.pop(number)
        self.release(receiver if holder is None else holder)
        del receiver, holder
        self.check_released()

    @precondition(lambda self: len(self.senders) > 1)
    @rule(number=index)
    def release_sender(self, number: int) -> None:
        self.release(self.senders.pop(1 + number % (len(self.senders) - 1)))
        self.check_released()

    def release(self, thing: Any) -> None:
        with contextlib.suppress(TypeError):
            self.released.append(weakref.ref(thing))

    def check_released(self) -> None:
        """Assert that what still lives does so by what Django's signals hold."""
        if COUNTS_REFERENCES:
            self.agree(self.soon(self.is_all_accounted_for))
        else:
            gc.collect()  # No more than that: see teardown().

    def is_all_accounted_for(self) -> bool:
        self.released = [ref for ref in self.released if ref() is not None]
        if not self.released:
            return True
        held = self.held_by_stock()
        return all(ref() is None or id(ref()) in held for ref in self.released)

    @staticmethod
    def soon(condition: Callable[[], bool]) -> bool:
        """Return whether ``condition`` comes true when garbage is collected.

        The thread that ran a synchronous receiver for an asynchronous send may
        take a moment to let go of it.
        """
        for _ in range(100):
            gc.collect()
            if condition():
                return True
            time.sleep(0.01)
        return False

    def held_by_stock(self) -> set[int]:
        """Return the ids of what can be reached from Django's signals and here."""
        todo: list[Any] = [self.receivers, self.holders, self.senders]
        for stock, _ in self.sides:
            todo += [stock.saved, stock.signal.receivers]
            todo.append(stock.signal.sender_receivers_cache)
        held: set[int] = set()
        while todo:
            thing = todo.pop()
            if id(thing) in held:
                continue
            held.add(id(thing))
            # Not from a function into all that its module knows.
            if not isinstance(thing, BOUNDARIES) and thing is not globals():
                todo += gc.get_referents(thing)
        return held

    # The public interface.

    @precondition(lambda self: self.receivers)
    @rule(
        pair=index,
        receiver=index,
        sender=index,
        weak=st.sampled_from([True, True, True, False]),
        uid=st.sampled_from(UIDS),
    )
    def connect(self, pair: int, receiver: int, sender: int, weak: bool, uid: Any):
        self.both_and_probe(
            pair,
            lambda side: side.signal.connect(
                self.receiver(receiver), self.sender(sender), weak, uid
            ),
        )

    @rule(pair=index, sender=index, as_method=st.booleans())
    def connect_what_nothing_holds(self, pair: int, sender: int, as_method: bool):
        def act(side: Side) -> None:
            before = {id(entry): entry for entry in side.signal.receivers}
            if any(junk in JUNK for junk in before.values()):
                # A scan fails when it gets there. Whether it does depends on the id,
                # which may be that of an entry of something dead, for one side.
                return
            if as_method:
                side.signal.connect(Holder([], "gone").method, self.sender(sender))
            else:
                side.signal.connect(lambda **kwargs: None, self.sender(sender))
            gc.collect()
            # Its id is that of something else for one side, or will be: only what
            # became of the signal otherwise can be compared.
            receivers = side.signal.receivers
            receivers[:] = [entry for entry in receivers if id(entry) in before]

        self.both(pair, act)

    @precondition(lambda self: self.receivers)
    @rule(pair=index, receiver=index, senders=st.lists(index, max_size=6))
    def connect_to_many(self, pair: int, receiver: int, senders: list[int]) -> None:
        for sender in senders:
            self.connect(pair, receiver, sender, True, None)

    @precondition(lambda self: self.receivers)
    @rule(pair=index, receiver=index, sender=index, uid=st.sampled_from(UIDS))
    def disconnect(self, pair: int, receiver: int, sender: int, uid: Any) -> None:
        self.both_and_probe(
            pair,
            lambda side: side.signal.disconnect(
                self.receiver(receiver), self.sender(sender), uid
            ),
        )

    @rule(
        pair=index,
        sender=index,
        how=st.sampled_from(["send", "send", "send", "send_robust"]),
        named=st.sampled_from(
            [{}, {}, {"value": 1}, {"value": 1, "other": 2}, {"signal": 1}]
        ),
    )
    def send(self, pair: int, sender: int, how: str, named: dict[str, Any]) -> None:
        self.both(
            pair,
            lambda side: self.seen_answers(
                getattr(side.signal, how)(self.sender(sender), **named)
            ),
        )

    @rule(
        pair=index,
        sender=index,
        how=st.sampled_from(["asend", "asend_robust"]),
        named=st.sampled_from([{}, {"value": 1}, {"signal": 1}]),
    )
    def asend(self, pair: int, sender: int, how: str, named: dict[str, Any]) -> None:
        async def send(side: Side) -> Any:
            try:
                answer = getattr(side.signal, how)(self.sender(sender), **named)
                return self.seen_answers(await answer), carried.get()
            finally:
                # Let the thread for synchronous code come to the end of its receivers.
                await sync_to_async(int)()

        def run_asend(side: Side) -> Any:
            return asyncio.run(send(side))

        self.both(pair, run_asend)

    @rule(pair=index, sender=index, how=st.sampled_from(["asend", "asend_robust"]))
    def asend_and_cancel(self, pair: int, sender: int, how: str) -> None:
        async def send(side: Side) -> Any:
            signal = side.signal
            if signal._live_receivers(self.sender(sender))[0]:
                # How far those in their thread get is chance.
                return "not now", False
            task = asyncio.ensure_future(getattr(signal, how)(self.sender(sender)))
            for _ in range(10):
                await asyncio.sleep(0)
            cancelled = task.cancel()
            try:
                return self.seen_answers(await task), cancelled, carried.get()
            except asyncio.CancelledError:
                return "cancelled", cancelled, carried.get()

        def run_asend(side: Side) -> Any:
            return asyncio.run(send(side))

        self.both(pair, run_asend)

    @rule(pair=index, sender=index)
    def has_listeners(self, pair: int, sender: int) -> None:
        self.both(pair, lambda side: side.signal.has_listeners(self.sender(sender)))

    @rule(pair=index, arguments=st.sampled_from([(), (1, 2), (None, None, None)]))
    def send_wrongly(self, pair: int, arguments: tuple[Any, ...]) -> None:
        self.both(pair, lambda side: side.signal.send(*arguments))

    # The private surface.

    @rule(pair=index, sender=index)
    def live_receivers(self, pair: int, sender: int) -> None:
        def act(side: Side) -> Any:
            result = side.signal._live_receivers(self.sender(sender))
            answer = type(result), [[seen(one) for one in part] for part in result]
            for part in result:
                assert type(part) is list
                part.clear()
            return answer

        self.both_and_probe(pair, act)

    @rule(pair=index, at=index, to=index)
    def move_entry(self, pair: int, at: int, to: int) -> None:
        def act(side: Side) -> None:
            receivers = side.signal.receivers
            if receivers:
                receivers.insert(to, receivers.pop(at % len(receivers)))

        self.both_and_probe(pair, act)

    @rule(pair=index, at=index, other=index, how=st.sampled_from(range(8)))
    def edit_with_entry(self, pair: int, at: int, other: int, how: int) -> None:
        def act(side: Side) -> Any:
            receivers = side.signal.receivers
            source = self.sides[other % len(self.sides)]
            source_side = source[self.sides[pair % len(self.sides)].index(side)]
            entries = source_side.signal.receivers[at : at + 2]
            if how == 0:
                receivers.extend(entries)
            elif how == 1:
                receivers += entries
            elif how == 2:
                receivers[at : at + 1] = entries
            elif how == 3 and entries:
                receivers.append(entries[0])
            elif how == 4 and entries and receivers:
                receivers[at % len(receivers)] = entries[0]
            elif how == 5:
                receivers *= 2
                del receivers[20:]
            elif how == 6 and entries:
                receivers.remove(entries[0])
            elif how == 7:
                return len(receivers), entries == entries[:], bool(receivers)
            return None

        self.both_and_probe(pair, act)

    @rule(pair=index, at=index, how=st.sampled_from(range(7)))
    def edit(self, pair: int, at: int, how: int) -> None:
        def act(side: Side) -> Any:
            receivers = side.signal.receivers
            if how == 0:
                receivers.reverse()
            elif how == 1:
                receivers.sort(key=lambda entry: str(entry[0]))
            elif how == 2:
                receivers.clear()
            elif how == 3:
                del receivers[at:]
            elif how == 4:
                del receivers[at % (len(receivers) + 1)]
            elif how == 5:
                receivers.sort()
            elif how == 6:
                receivers.pop()
            return None

        self.both_and_probe(pair, act)

    @rule(
        pair=index,
        junk=st.sampled_from(JUNK),
        sender=index,
    )
    def put_junk(self, pair: int, junk: Any, sender: int) -> None:
        def act(side: Side) -> Any:
            side.signal.receivers.append(junk)
            # What an empty cache does to it shows up at once.
            side.signal.sender_receivers_cache.clear()
            return self.seen_answers(side.signal.send(self.sender(sender)))

        self.both_and_probe(pair, act)
        self.both(pair, lambda side: side.signal.receivers.remove(junk))

    @rule(pair=index)
    def mute(self, pair: int) -> None:
        def act(side: Side) -> None:
            side.saved.append(side.signal.receivers)
            side.signal.receivers = []

        self.both_and_probe(pair, act)

    @rule(pair=index, keep=st.booleans(), before=st.booleans())
    def unmute(self, pair: int, keep: bool, before: bool) -> None:
        def act(side: Side) -> None:
            if side.saved:
                saved = side.saved[-1] if keep else side.saved.pop()
                receivers = side.signal.receivers
                together = saved + receivers if before else receivers + saved
                side.signal.receivers = together[:20]
                with side.signal.lock:
                    side.signal.sender_receivers_cache.clear()

        self.both_and_probe(pair, act)

    @rule(pair=index)
    def put_back(self, pair: int) -> None:
        def act(side: Side) -> None:
            if side.saved:
                side.signal.receivers = side.saved[-1]

        self.both_and_probe(pair, act)

    @rule(pair=index, at=index, how=st.sampled_from(range(4)))
    def edit_saved(self, pair: int, at: int, how: int) -> None:
        def act(side: Side) -> None:
            if side.saved:
                saved = side.saved[at % len(side.saved)]
                if how == 0:
                    saved.reverse()
                elif how == 1 and saved:
                    saved.append(saved[0])
                    del saved[20:]
                elif how == 2 and saved:
                    saved.pop()
                elif how == 3:
                    side.saved.remove(saved)

        self.both_and_probe(pair, act)

    @precondition(lambda self: len(self.sides) < 5)
    @rule(pair=index)
    def copy_signal(self, pair: int) -> None:
        stock, ours = self.sides[pair % len(self.sides)]
        self.add_sides(copy.copy(stock.signal), copy.copy(ours.signal))

    @rule(pair=index, fails=st.sampled_from([copy.deepcopy, lambda s: s.__reduce__()]))
    def copy_otherwise(self, pair: int, fails: Callable[[Any], Any]) -> None:
        def act(side: Side) -> Any:
            fails(side.signal)
            return None

        self.both_and_probe(pair, act)

    @rule(pair=index, sender=index, how=st.sampled_from(range(6)))
    def use_cache(self, pair: int, sender: int, how: int) -> None:
        def act(side: Side) -> Any:
            cache = side.signal.sender_receivers_cache
            if how == 0:
                cache.clear()
            elif how == 1:
                cache.pop(self.sender(sender), None)
            elif how == 2:
                return cache.get(self.sender(sender)) is NO_RECEIVERS
            elif how == 3:
                return len(cache), len(cache.copy())
            elif how == 4:
                cache[self.sender(sender)] = NO_RECEIVERS
            elif how == 5:
                routes = cache.get(self.sender(sender))
                if routes and routes is not NO_RECEIVERS:
                    routes.append(routes[0])
            return None

        self.both_and_probe(pair, act)

    @rule(pair=index, how=st.sampled_from(range(5)))
    def set_attribute(self, pair: int, how: int) -> None:
        def act(side: Side) -> None:
            signal = side.signal
            if how == 0:
                getattr(signal, FLAG)()
            elif how == 1:
                signal._dead_receivers = not signal._dead_receivers
            elif how == 2:
                signal.use_caching = not signal.use_caching
            elif how == 3:
                signal.lock = threading.RLock()
            elif how == 4:
                with signal.lock:
                    signal._clear_dead_receivers()

        self.both_and_probe(pair, act)

    @rule(
        pair=index,
        sender=index,
        where=st.sampled_from(["instance", "class"]),
        method=st.sampled_from(
            ["_live_receivers", "_clear_dead_receivers", "_log_robust_failure", "send"]
        ),
        how=st.sampled_from(["send", "send_robust", "has_listeners"]),
    )
    def patch(self, pair: int, sender: int, where: str, method: str, how: str) -> None:
        def act(side: Side) -> Any:
            target = side.signal if where == "instance" else type(side.signal)
            original = getattr(side.signal, method)
            calls = []

            def replacement(*args: Any, **kwargs: Any) -> Any:
                calls.append(len(args))
                skipped = 0 if where == "instance" else 1
                return original(*args[skipped:], **kwargs)

            with mock.patch.object(target, method, replacement):
                answer = getattr(side.signal, how)(self.sender(sender))
            if how == "has_listeners":
                return calls, answer
            return calls, self.seen_answers(answer)

        self.both_and_probe(pair, act)

    # After each step.

    def notice_what_only_stock_does(self) -> None:
        """Up to Django 6.0, the death of a receiver that had been disconnected."""
        for stock, ours in self.sides:
            if RELEASE < (6, 1) and stock.signal._dead_receivers:
                ours.signal._dead_receivers = True

    @invariant()
    def looks_the_same(self) -> None:
        self.notice_what_only_stock_does()
        for pair in self.sides:
            stock, ours = (self.look(side) for side in pair)
            self.agree(ours == stock, ours, stock)

    def look(self, side: Side) -> Any:
        signal = side.signal
        cache = [
            (id(sender), routes is NO_RECEIVERS or list(map(seen_entry, routes)))
            for sender, routes in signal.sender_receivers_cache.items()
        ]
        return (
            list(vars(signal)),
            list(map(seen_entry, signal.receivers)),
            [list(map(seen_entry, saved)) for saved in side.saved],
            [saved is signal.receivers for saved in side.saved],
            cache,
            signal._dead_receivers,
            signal.use_caching,
            repr(signal) == object.__repr__(signal),
        )


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.monitored
def test_state_machine(implementation: str) -> None:
    ours = IMPLEMENTATIONS[implementation].Signal
    machine = type("Machine", (Machine,), {"ours": ours})
    fuzzing = "ALTDISPATCH_FUZZ" in os.environ  # How many runs, by `make fuzz`.
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ["ALTDISPATCH_FUZZ"]) if fuzzing else 100,
            stateful_step_count=60 if fuzzing else 40,
            deadline=None,
            derandomize=not fuzzing,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
