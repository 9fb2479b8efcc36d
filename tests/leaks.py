"""Find reference leaks in the public interface: ``make sanitize`` runs this.

    python3.14-dbg tests/leaks.py [OPERATION...]

It needs a debug build of Python, which counts all references. An operation leaks if
the count keeps growing when it is repeated. Exit status: 0 if no operation leaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
import pathlib
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import django.dispatch
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction

import altdispatch
from altdispatch import (
    dispatcher,
    hybrid,
    implementations,
    listing,
    lost,
    monitoring,
    tasks,
    utils,
)

# Repetitions in a round. A leak of one reference in every second is detected.
TIMES = 20
# Caches grow in the first rounds; a leak grows in all of them.
MOST_ROUNDS = 30

Make = Callable[..., Any]
OPERATIONS: dict[str, Callable[[Make], Any]] = {}


def operation(function: Callable[[Make], Any]) -> Callable[[Make], Any]:
    OPERATIONS[function.__name__] = function
    return function


class Sender:
    pass


class Listener:
    def receive(self, **kwargs: Any) -> None:
        pass

    async def receive_async(self, **kwargs: Any) -> None:
        await asyncio.sleep(0)

    def __call__(self, **kwargs: Any) -> None:
        pass


class Fails:
    """A sender with Sender's hash whose comparison fails."""

    def __hash__(self) -> int:
        return hash(Sender)

    def __eq__(self, other: object) -> bool:
        raise KeyError("no")


def receive(**kwargs: Any) -> int:
    return 1


def takes_no_keywords() -> None:
    pass


def fail(**kwargs: Any) -> None:
    raise ValueError("no")


async def receive_async(**kwargs: Any) -> int:
    return 1


async def wait(**kwargs: Any) -> int:
    await asyncio.sleep(0)
    return 1


async def fail_async(**kwargs: Any) -> None:
    raise ValueError("no")


async def be_cancelled(**kwargs: Any) -> None:
    raise asyncio.CancelledError


def is_ours(make: Make) -> bool:
    """Return whether altdispatch dispatches these signals."""
    return altdispatch.is_installed() or type(make()) is altdispatch.Signal


def expect(errors: Any, function: Callable[..., Any], *args: Any, **kw: Any) -> None:
    """Call a function that must raise one of the errors."""
    try:
        function(*args, **kw)
    except errors:
        return
    raise AssertionError(f"{function} did not raise")


@operation
def connect_and_disconnect(make: Make) -> None:
    signal = make()
    listener = Listener()
    for receiver in (receive, listener.receive, listener, receive_async):
        for sender in (None, Sender, listener):
            for more in ({}, {"weak": False}, {"dispatch_uid": "uid"}):
                signal.connect(receiver, sender=sender, **more)
        signal.send(Sender)
        for sender in (None, Sender, listener):
            for more in ({}, {"dispatch_uid": "uid"}):
                signal.disconnect(receiver, sender=sender, **more)
        assert not signal.disconnect(receiver)
    assert signal.receivers == []


@operation
def connect_invalid_receivers(make: Make) -> None:
    signal = make()
    settings.DEBUG = True
    try:
        expect(TypeError, signal.connect, 5)
        # Django caches the parameters of functions, so use the same function.
        expect(ValueError, signal.connect, takes_no_keywords)
    finally:
        settings.DEBUG = False
    expect(TypeError, signal.connect, "not weakly")
    expect(TypeError, signal.connect)
    expect(TypeError, signal.connect, receive, receive, receive, receive, receive)
    expect(TypeError, signal.disconnect, nothing=1)


@operation
def send(make: Make) -> None:
    signal = make()
    assert signal.send(Sender) == signal.send_robust(Sender, a=1) == []
    listeners = [Listener() for _ in range(20)]
    for listener in listeners:
        signal.connect(listener)
        signal.connect(listener.receive, sender=Sender)
        for _ in range(2):
            signal.send(Sender)
            signal.send(sender=Listener, a=1, **{f"b{1}": 2})
            signal.send_robust(Sender, a=1)
            assert signal.has_listeners(Sender)
            signal._live_receivers(Sender)


@operation
def send_with_wrong_arguments(make: Make) -> None:
    signal = make()
    signal.connect(receive)
    for method in (signal.send, signal.send_robust):
        expect(TypeError, method)
        expect(TypeError, method, Sender, Sender)
        expect(TypeError, method, Sender, sender=Sender)
        expect(TypeError, method, **{"a": 1})
    expect(TypeError, signal.send, Sender, signal=1)
    assert isinstance(signal.send_robust(Sender, signal=1)[0][1], TypeError)
    expect(TypeError, signal.has_listeners, 1, 2)
    expect(TypeError, signal._live_receivers)


@operation
def send_and_fail(make: Make) -> None:
    signal = make()
    signal.connect(receive)
    signal.connect(fail)
    for _ in range(3):
        expect(ValueError, signal.send, Sender)
        assert len(signal.send_robust(Sender, a=1)) == 2


@operation
def send_from_invalid_cache_keys(make: Make) -> None:
    signal = make()
    signal.connect(receive)
    signal.connect(receive, sender=Sender)
    signal.send(Sender)
    for sender in ([], {}, Fails(), 5, "text", (Sender, [])):
        for method in (signal.send, signal.send_robust, signal.has_listeners):
            with contextlib.suppress(TypeError, KeyError):
                method(sender)


@operation
def drop_receivers_and_senders(make: Make) -> None:
    signal = make()
    for _ in range(3):
        listener, sender = Listener(), Sender()
        signal.connect(listener.receive)
        signal.connect(receive, sender=sender)
        signal.connect(receive)
        signal.send(sender)
        del listener, sender
        signal.send(Sender)
        assert signal.has_listeners(Sender)
        signal._clear_dead_receivers()
        signal.disconnect(receive)


@operation
def finalize(make: Make) -> None:
    """The finalizers of receivers and senders send, connect and disconnect."""
    signal = make()

    class Ends(Listener):
        def __del__(self) -> None:
            signal.connect(receive, dispatch_uid="end")
            signal.send(Sender)
            signal.disconnect(dispatch_uid="end")
            signal.receivers.reverse()

    for weak in (True, False):
        for sender in (Sender, Ends()):
            ends: Any = Ends()
            weakref.finalize(ends, signal.send, Sender)
            signal.connect(ends.receive, sender=sender, weak=weak, dispatch_uid=1)
            signal.connect(receive)
            signal.send(sender)
            if weak:
                del ends
            signal.send(sender)
            signal.disconnect(sender=sender, dispatch_uid=1)
            # Earlier, disconnect() would run the finalizer while it holds the lock.
            ends = None
            signal.disconnect(receive)


@operation
def change_while_sending(make: Make) -> None:
    signal = make()
    listeners = [Listener() for _ in range(5)]

    def change(**kwargs: Any) -> None:
        signal.disconnect(change)
        listeners.clear()
        signal.connect(receive)
        signal.sender_receivers_cache.clear()
        signal.send(Sender)

    signal.connect(change)
    for listener in listeners:
        signal.connect(listener.receive)
    del listener
    signal.send(Sender)
    signal.send(Sender)


@operation
def edit(make: Make) -> None:
    signal = make()
    for number in range(5):
        signal.connect(receive, dispatch_uid=str(number))
    saved = signal.receivers
    for change in (
        lambda: signal.receivers.reverse(),
        lambda: signal.receivers.append(signal.receivers.pop()),
        lambda: signal.receivers.sort(key=lambda entry: entry[0][0]),
        lambda: setattr(signal, "receivers", []),
        lambda: setattr(signal, "receivers", [*saved]),
        lambda: signal.receivers.clear(),
    ):
        change()
        signal.sender_receivers_cache.clear()
        signal.send(Sender)
        signal.has_listeners(Sender)
    expect(TypeError, signal.receivers.sort, 1)
    signal.receivers.append("no entry")
    signal.sender_receivers_cache.clear()
    expect((TypeError, ValueError), signal._live_receivers, Sender)


@operation
def patch_live_receivers(make: Make) -> None:
    signal = make()
    signal.connect(receive)
    shared: list[Any] = [receive]
    for found in (
        ([receive], []),
        (shared, []),
        ((receive,), ()),
        ([], [receive_async]),
        ([fail], [receive_async]),
        [[receive], []],
        ([receive, None], []),
        None,
    ):
        signal._live_receivers = lambda sender, found=found: copy.copy(found)
        for method in (signal.send, signal.send_robust, signal.has_listeners):
            with contextlib.suppress(AttributeError, TypeError, ValueError):
                method(Sender)
            with contextlib.suppress(AttributeError, TypeError, ValueError):
                method(sender=Sender)
    del signal._live_receivers
    signal.send(Sender)


@operation
def copy_signal(make: Make) -> None:
    signal = make()
    signal.connect(receive)
    signal.send(Sender)
    other = copy.copy(signal)
    other.connect(fail)
    expect(ValueError, signal.send, Sender)
    expect(TypeError, copy.deepcopy, signal)


@operation
def send_to_asynchronous_receivers(make: Make) -> None:
    signal = make()
    listener = Listener()
    for receiver in (receive, receive_async, wait, listener.receive_async):
        signal.connect(receiver)
    assert len(signal.send(Sender, a=1)) == 4
    assert len(signal.send_robust(Sender, a=1)) == 4
    signal.connect(fail_async)
    expect(ValueError, signal.send, Sender)
    assert len(signal.send_robust(Sender)) == 5


@operation
def asend(make: Make) -> None:
    signal = make()
    asyncio.run(asend_and_fail(signal))


async def asend_and_fail(signal: Any) -> None:
    await signal.asend(Sender)
    for receiver in (receive, receive_async, wait):
        signal.connect(receiver)
        for method in (signal.asend, signal.asend_robust):
            await method(Sender)
            await method(sender=Listener, a=1)
    for receiver in (fail_async, be_cancelled, fail):
        signal.connect(receiver)
        for method in (signal.asend, signal.asend_robust):
            with contextlib.suppress(ValueError, asyncio.CancelledError):
                await method(Sender)
        signal.disconnect(receiver)
    for method in (signal.asend, signal.asend_robust):
        for given in ((), (Sender, Sender)):
            with contextlib.suppress(TypeError):
                await method(*given)
        with contextlib.suppress(TypeError):
            await method(Sender, signal=1)
        task = asyncio.ensure_future(method(Sender))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        method(Sender).close()


@operation
def use_helpers(make: Make) -> None:
    signal = make()
    signal.connect(receive)
    with utils.muted(signal), utils.connected(fail, signal):
        assert signal.send(Sender) == []
    with utils.recorded(signal) as sends:
        signal.send(Sender)
    assert len(sends) == 1
    altdispatch.receiver(signal)(receive)


@operation
def list_and_show_status(make: Make) -> None:
    signal = make()
    signal.connect(receive)
    assert listing.list_repeated() == []
    assert str(altdispatch.status())


@operation
def list_signals(make: Make) -> None:
    signal = make()
    signal.connect(receive)
    assert listing.list_signals()


@operation
def find_lost_receivers(make: Make) -> None:
    signal = make()
    apps.ready = False
    dispatcher.watcher = lost
    try:
        signal.connect(lambda **kwargs: None)
        signal.connect(partial(receive, a=1))
        signal.connect(Listener().receive)
        signal.connect(receive)
    finally:
        apps.ready = True
    assert len(lost.find_lost()) == (3 if is_ours(make) else 0)
    # They are kept for as long as the process runs.
    lost._lost.clear()
    signal.send(Sender)


@operation
def monitor(make: Make) -> None:
    monitoring.enable()
    calls: list[monitoring.Call] = []
    with monitoring.subscribe(calls.append, slower_than=0):
        for each in (
            *(send, send_with_wrong_arguments, send_and_fail, finalize),
            *(drop_receivers_and_senders, change_while_sending, patch_live_receivers),
            *(send_to_asynchronous_receivers, asend, send_to_hybrid_receivers),
        ):
            each(make)
    assert bool(calls) is is_ours(make)
    for call in calls[:5]:
        assert call.receiver_name
    monitoring.snapshot().as_dict()
    monitoring.disable()
    monitoring.reset()


@operation
def fail_in_subscribers(make: Make) -> None:
    def interrupt(call: monitoring.Call) -> None:
        raise KeyboardInterrupt

    signal = make()
    expect(ValueError, monitoring.subscribe, receive, -1)
    for receiver in (receive, fail):
        signal.connect(receiver)
        for subscriber in (fail, interrupt):
            with monitoring.subscribe(subscriber, slower_than=0):
                for method in (signal.send, signal.send_robust):
                    with contextlib.suppress(ValueError, KeyboardInterrupt):
                        method(Sender)


@operation
def monitor_built_in_receivers(make: Make) -> None:
    signal = make()
    monitoring.enable()
    for receiver in (print, {}.update, [].append, type("Class", (dict,), {})().update):
        signal.connect(receiver)
        signal.send_robust(Sender)
        signal.disconnect(receiver)
    monitoring.disable()


@operation
def watch_with_wrong_arguments(make: Make) -> None:
    watch = implementations.in_use.watch
    if watch is not None:
        expect(TypeError, watch)
        expect(TypeError, watch, None, None, None, "no number", None, None)
        expect(TypeError, watch, None, None, None, -1, None, None)


class Both:
    """Has a hybrid receiver."""

    @hybrid.hybrid
    def receive(self, **kwargs: Any) -> str:
        return "synchronous"

    @receive.asynchronous
    async def receive(self, **kwargs: Any) -> str:
        return "asynchronous"


@operation
def send_to_hybrid_receivers(make: Make) -> None:
    signal = make()
    both = Both()
    failing = hybrid.hybrid(fail, fail_async)
    expect(TypeError, hybrid.hybrid, receive_async)
    expect(TypeError, failing.asynchronous, fail_async)
    signal.connect(receive)
    signal.connect(both.receive)
    for _ in range(2):
        for send in (signal.send, lambda sender: asyncio.run(signal.asend(sender))):
            assert len(send(Sender)) == 2
        signal.connect(failing)
        expect(ValueError, signal.send, Sender)
        expect(ValueError, asyncio.run, signal.asend(Sender))
        assert len(asyncio.run(signal.asend_robust(Sender))) == 3
        signal.disconnect(failing)


@operation
def register_on_commit(make: Make) -> None:
    signal = make()
    listener = Listener()
    signal.connect(tasks.on_commit(receive))
    signal.connect(tasks.on_commit(receive_async))
    signal.connect(tasks.on_commit(fail, robust=True))
    signal.connect(tasks.on_commit(listener.receive), weak=False)
    expect(TypeError, tasks.on_commit, 5)
    signal.send(Sender)
    with transaction.atomic():
        signal.send(Sender)
    with contextlib.suppress(KeyError), transaction.atomic():
        signal.send(Sender)
        raise KeyError
    assert signal.disconnect(tasks.on_commit(receive))
    # An open one keeps references to its last 200 cursors.
    connection.close()


class Task:
    """As a task of ``django.tasks``, which Django 5.2 doesn't have."""

    module_path = "leaks.receive"
    backend = queue_name = "default"
    priority = 0
    run_after = None

    def func(self) -> None:
        pass

    def get_backend(self) -> Any:
        return SimpleNamespace(alias="default")

    def enqueue(self, **arguments: Any) -> Any:
        return arguments

    async def aenqueue(self, **arguments: Any) -> Any:
        return arguments


async def pay_async(**kwargs: Any) -> dict[str, Any]:
    return {"a": [1, {"b": "text"}]}


def pay(**kwargs: Any) -> dict[str, Any]:
    return {"a": [1, {"b": "text"}]}


def pay_nothing(**kwargs: Any) -> None:
    pass


def pay_an_object(**kwargs: Any) -> dict[str, Any]:
    return {"a": object()}


@operation
def queue_tasks(make: Make) -> None:
    signal = make()
    task = Task()
    for payload in (pay, pay_async, pay_nothing, pay_an_object):
        for when in ("now", "commit", "transaction"):
            with transaction.atomic():
                tasks.connect_task(signal, task, Sender, payload=payload, when=when)
                if payload is pay_an_object:
                    expect(TypeError, signal.send, Sender)
                elif payload is not pay_async or when == "now":
                    # Others would use the database of another thread.
                    signal.send(Sender)
                expect(
                    ValueError,
                    *(tasks.connect_task, signal, task, Sender),
                    payload=fail,
                    when=when,
                )
                assert tasks.disconnect_task(signal, task, Sender)
    expect(TypeError, tasks.connect_task, signal, receive, payload=pay)
    expect(ValueError, tasks.connect_task, signal, task, payload=pay, when="no")
    tasks.task_receiver([signal, make()], payload=pay, when="now")(task)
    signal.send(Sender)
    connection.close()


@operation
def swap(make: Make) -> None:
    signal = django.dispatch.Signal()
    was_installed = altdispatch.is_installed()
    signal.connect(receive)
    for _ in range(2):
        for change in (altdispatch.uninstall, altdispatch.install):
            change()
            signal.send(Sender)
            signal.disconnect(receive)
            signal.connect(receive)
    if not was_installed:
        altdispatch.uninstall()


def makers() -> dict[str, Make]:
    """Return functions that make a signal of each kind, by its name."""
    return {
        f"{kind}, caching" if caching else kind: lambda cls=cls, caching=caching: cls(
            use_caching=caching
        )
        for kind, cls in [
            ("altdispatch's", altdispatch.Signal),
            ("Django's", django.dispatch.Signal),
        ]
        for caching in (False, True)
    }


# These look for names in all modules, so they are repeated less often.
SLOW = (list_signals, monitor)


def growth(function: Callable[[Make], Any], make: Make) -> int:
    """Return the growth of the last round, 0 after two rounds with little growth.

    One quiet round isn't enough: a thread of an earlier round may have ended in it.
    """
    before = after = sys.gettotalrefcount()
    quiet = 0
    times = TIMES // 5 if function in SLOW else TIMES
    for _ in range(MOST_ROUNDS):
        before = after
        for _ in range(times):
            function(make)
        gc.collect()
        # The cache keeps names of attributes, with the classes they were found on.
        sys._clear_internal_caches()
        after = sys.gettotalrefcount()
        quiet = quiet + 1 if after - before < times // 2 else 0
        if quiet == 2:
            return 0
    return after - before


def set_up(folder: str) -> None:
    # Django doesn't close a database in memory.
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/database"}
    settings.configure(
        DATABASES={"default": database},
        ALTDISPATCH={"TASK_DATABASES": {"default": "default"}},
    )
    django.setup()
    logging.disable()
    # Stock Django doesn't await these coroutines either if a send fails.
    warnings.filterwarnings("ignore", ".*never awaited", RuntimeWarning)


def count_leaks(names: list[str]) -> int:
    """Print which operations leak; return how many."""
    leaks = 0
    for swapped in (False, True):
        if swapped:
            altdispatch.install()
        for kind, make in makers().items():
            for name in names or OPERATIONS:
                count = growth(OPERATIONS[name], make)
                if count > 0:
                    leaks += 1
                    print(f"{name} ({kind}, swapped: {swapped}): {count} references")
    return leaks


def main(names: list[str]) -> int:
    if not hasattr(sys, "gettotalrefcount"):
        sys.exit("This needs a debug build of Python, such as Debian's python3.14-dbg.")
    with tempfile.TemporaryDirectory() as folder:
        set_up(folder)
        return bool(count_leaks(names))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
