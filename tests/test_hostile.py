"""Generate hostile programs and compare what they see on stock Django and altdispatch.

Their senders, receivers and keys run code whenever Python calls it: in comparisons,
hashes, attribute look-ups, truth tests, calls and finalizers. That code sends,
connects, disconnects, edits, deletes, collects garbage and raises. Both dispatchers
must produce the same log.

``make test`` runs some programs, ``make fuzz`` many.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import sys
import threading
import time
import weakref
from typing import Any

import django.dispatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from altdispatch.releases import ENTRY_LENGTH

from .implementations import COUNTS_REFERENCES, IMPLEMENTATIONS

EVENTS = ["eq", "hash", "func", "bool", "call", "del", "callback"]
ACTIONS = [
    "raise",
    "send",
    "robust",
    "look up",
    "connect",
    "disconnect",
    "clear cache",
    "clear receivers",
    "reverse",
    "append",
    "pop",
    "replace",
    "share",
    "forget cache",
    "patch",
    "drop",
    "collect",
    "switch",
]


class Stop(Exception):
    """The error that hostile code raises."""


class World:
    """Two signals, the objects of a program, and a log of what happened."""

    def __init__(self, Signal: type, caching: bool, script: list[Any]) -> None:
        self.signals = [Signal(use_caching=caching), Signal(use_caching=caching)]
        self.script = {event: [a for e, a in script if e == event] for event in EVENTS}
        self.log: list[Any] = []
        self.level = 0
        self.armed = False
        self.objects: dict[str, list[Any]] = {
            "sender": [Sender, *(Hostile(self, f"sender {n}") for n in range(3))],
            "receiver": [Hostile(self, f"receiver {n}") for n in range(4)],
            "uid": [None, "uid", 5, *(Hostile(self, f"uid {n}") for n in range(2))],
        }
        self.objects["sender"].append(type("Listed", (), {}))

    def act(self, source: Hostile, event: str) -> None:
        """Do the script's next action for an event, once."""
        if not self.armed or self.level > 3 or not self.script[event]:
            return
        action, number = self.script[event].pop(0)
        signal = self.signals[number % 2]
        lock = signal.__dict__.get("lock")
        self.log.append((event, source.name, action, lock is None or lock.locked()))
        if lock is None or (lock.locked() and action not in NEED_NO_LOCK):
            return
        self.level += 1
        try:
            self.do(action, number, signal)
        finally:
            self.level -= 1

    def pick(self, kind: str, number: int) -> Any:
        """Return an object of a kind, None if it was dropped."""
        objects = self.objects[kind]
        return objects[number % len(objects)]

    def do(self, action: str, number: int, signal: Any) -> Any:
        """Act on a signal; return the comparable part of the result."""
        sender = self.pick("sender", number // 2)
        receivers = signal.__dict__.get("receivers")
        if action == "raise":
            raise Stop(number)
        if action in ("send", "robust"):
            how = signal.send if action == "send" else signal.send_robust
            return [
                (describe(r), describe(answer)) for r, answer in how(sender, a=number)
            ]
        if action == "look up":
            living, asynchronous = signal._live_receivers(sender)
            return (
                signal.has_listeners(sender),
                list(map(describe, living)),
                asynchronous,
            )
        if action in ("connect", "disconnect"):
            receiver = self.pick("receiver", number // 3)
            uid = self.pick("uid", number // 5)
            if receiver is None:
                return None
            kind = number % 7
            if kind == 0:
                receiver = receiver.method
            elif kind == 1:
                receiver = weakref.proxy(receiver)
            elif kind == 2 and action == "connect":
                receiver = weakref.ref(receiver)
            if number % 4 == 0:
                sender = None
            if action == "disconnect":
                return signal.disconnect(receiver, sender, uid)
            return signal.connect(
                receiver, sender, weak=kind in (0, 3), dispatch_uid=uid
            )
        if action == "clear cache":
            signal.sender_receivers_cache.clear()
        elif action == "forget cache":
            signal.sender_receivers_cache = type(signal.sender_receivers_cache)()
        elif action == "share":
            self.signals[0].receivers = self.signals[1].receivers
        elif action == "patch":
            if signal.__dict__.pop("_live_receivers", None) is None:
                signal._live_receivers = lambda sender: ([patched], [])
        elif action == "drop":
            kind = ("sender", "receiver", "uid")[number % 3]
            objects = self.objects[kind]
            objects[number % len(objects)] = None if kind != "sender" else Sender
        elif action == "collect":
            gc.collect()
        elif action == "switch":
            time.sleep(0)
        elif action == "many":
            for each in range(100):
                signal.connect(patched, self.objects["sender"][-1], True, f"u{each}")
        elif action == "look up often":
            return [signal.has_listeners(Sender) for _ in range(20)], [
                signal.disconnect(patched, dispatch_uid="nobody's") for _ in range(20)
            ]
        elif isinstance(receivers, list):
            self.edit(action, number, signal, receivers)
        return None

    def edit(self, action: str, number: int, signal: Any, receivers: Any) -> None:
        """Edit the receivers of a signal, or replace the list."""
        if action == "clear receivers":
            receivers.clear()
        elif action == "reverse":
            receivers.reverse()
        elif action == "replace":
            signal.receivers = list(receivers)
        elif action == "pop" and receivers:
            receivers.pop(number % len(receivers))
        elif action == "append":
            uid = self.pick("uid", number)
            entry = ((uid, id(None)), patched, None, False)
            receivers.append(entry if ENTRY_LENGTH == 4 else (*entry[:2], False))


NEED_NO_LOCK = {"raise", "clear cache", "collect", "switch", "reverse", "replace"}


def patched(**kwargs: Any) -> str:
    """A receiver that no test disconnects."""
    return "patched"


class Sender:
    """A sender that does nothing."""


class Hostile:
    """A sender, receiver or key that runs the program's code wherever it can."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.__qualname__ = name  # send_robust() logs it.

    def __eq__(self, other: object) -> bool:
        self.world.act(self, "eq")
        return self is other

    def __hash__(self) -> int:
        self.world.act(self, "hash")
        return hash("uid") if self.name.startswith("uid") else 1

    def __getattr__(self, name: str) -> Any:
        if name == "__func__":
            self.world.act(self, "func")
        raise AttributeError(name)

    def __bool__(self) -> bool:
        self.world.act(self, "bool")
        return True

    def __call__(self, **kwargs: Any) -> str:
        if kwargs:
            self.world.act(self, "call")
        return self.name

    def method(self, **kwargs: Any) -> str:
        self.world.act(self, "call")
        return f"{self.name}'s method"

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.world.act(self, "del")


def describe(value: Any) -> Any:
    """Return what must be equal in both runs about a value."""
    try:
        if isinstance(value, Exception):
            return type(value).__name__
        value = getattr(value, "__self__", value)
        return getattr(value, "name", str(type(value)) if callable(value) else value)
    except ReferenceError:
        return "a dead proxy"


def run(Signal: type, caching: bool, script: list[Any], steps: list[Any]) -> list[Any]:
    """Run a program and return its log."""
    world = World(Signal, caching, script)
    world.armed = True
    for action, number in steps:
        try:
            outcome: Any = world.do(action, number, world.signals[number % 2])
        except Exception as error:
            outcome = type(error).__name__
        world.log.append((action, number, outcome))
        for signal in world.signals:
            world.log.append(
                (
                    signal.lock.locked(),
                    signal._dead_receivers,
                    len(signal.receivers),
                    [describe(entry[1]) for entry in signal.receivers],
                    len(signal.sender_receivers_cache),
                )
            )
    world.armed = False
    for signal in world.signals:
        # Up to Django 6.0, finalizers keep the signals alive.
        signal.receivers = []
    for objects in world.objects.values():
        objects.clear()
    return world.log


STEP_ACTIONS = ["send", "robust", "look up", "connect", "connect", "many"]
STEP_ACTIONS += ["look up often", *ACTIONS[4:]]
numbers = st.integers(0, 400)
SCRIPTS = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.tuples(st.sampled_from(ACTIONS), numbers)),
    max_size=12,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(STEP_ACTIONS),
        numbers,
    ),
    min_size=3,
    max_size=30,
)

FUZZ = int(os.environ.get("ALTDISPATCH_FUZZ", "0"))


@pytest.mark.skipif(not COUNTS_REFERENCES, reason="PyPy runs finalizers later")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_hostile_programs(name, caplog):
    """Both dispatchers produce the same log; neither crashes or keeps the lock."""
    caplog.set_level("CRITICAL", "django.dispatch")

    @settings(
        max_examples=FUZZ * 5 or 150,
        deadline=None,
        database=None,
        derandomize=not FUZZ,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.booleans(), SCRIPTS, STEPS)
    def compare(caching, script, steps):
        gc.disable()
        try:
            expected = run(django.dispatch.Signal, caching, script, steps)
            got = run(IMPLEMENTATIONS[name].Signal, caching, script, steps)
        finally:
            gc.enable()
        assert got == expected

    gc.freeze()  # Collections during the test skip the objects that exist now.
    try:
        in_time(compare, 300 + 10 * FUZZ)
    finally:
        gc.unfreeze()


def in_time(work: Any, seconds: float) -> None:
    """Call a function; fail if it deadlocks."""
    errors: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        faulthandler.dump_traceback(sys.__stderr__)
    assert not thread.is_alive(), "deadlock"
    if errors:
        raise errors[0]
