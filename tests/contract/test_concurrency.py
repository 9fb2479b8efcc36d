from __future__ import annotations

import gc
import os
import random
import sys
import threading

import django.dispatch
import pytest

from ..conftest import frozen_heap

pytestmark = pytest.mark.monitored

with_caching = pytest.mark.parametrize(
    "caching", [False, True], ids=["plain", "caching"]
)


class Sender:
    pass


@pytest.fixture
def short_switch_interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def repeat_in_threads(work, seconds):
    """Do each piece of work again and again, for so long or until one fails."""
    errors = []
    stop = threading.Event()

    def repeat(one):
        try:
            while not stop.is_set():
                one()
        except BaseException as error:
            errors.append(error)
            stop.set()

    threads = [threading.Thread(target=repeat, args=[one]) for one in work]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors


@pytest.mark.usefixtures("short_switch_interval")
@with_caching
@pytest.mark.parametrize("collecting", [False, True])
def test_threads_that_send_connect_and_disconnect(Signal, caching, collecting):
    """Nothing is lost, called out of order, or called when it must not be."""
    send_connect_and_disconnect(Signal(use_caching=caching), caching, collecting)


@pytest.mark.usefixtures("short_switch_interval")
@with_caching
@pytest.mark.parametrize("collecting", [False, True])
def test_threads_that_use_a_signal_of_stock_django(caching, collecting):
    """Stock Django keeps what the test above asserts."""
    signal = django.dispatch.Signal(use_caching=caching)
    send_connect_and_disconnect(signal, caching, collecting, seconds=0.5)


def send_connect_and_disconnect(signal, caching, collecting, seconds=2.0):
    """Use a signal in several threads at once."""
    senders = [Sender, int, None if not caching else str]
    steady = [lambda number=number, **kwargs: number for number in range(5)]
    for number, receiver in enumerate(steady):
        signal.connect(receiver, sender=None if number % 2 else Sender)

    def send():
        sender = random.choice(senders)
        answers = [answer for _, answer in signal.send(sender) if answer is not None]
        expected = [0, 1, 2, 3, 4] if sender is Sender else [1, 3]
        assert answers == expected, (sender, answers)

    def connect_and_disconnect():
        def passing(**kwargs):
            return None

        for sender in senders:
            signal.connect(passing, sender=sender)
        assert passing in [got for got, _ in signal.send(Sender)]
        for sender in random.sample(senders, len(senders)):
            assert signal.disconnect(passing, sender=sender)
        assert passing not in [got for got, _ in signal.send(Sender)]

    def connect_and_die():
        # Held until it is connected: 6.1 doesn't notice its death before.
        dying = lambda **kwargs: None  # noqa: E731
        signal.connect(dying, sender=random.choice(senders))
        sender = Sender()
        signal.connect(steady[0], sender=sender)
        assert [answer for _, answer in signal.send(sender)][:1] != []

    work = [send, send, connect_and_disconnect, connect_and_disconnect, connect_and_die]
    if collecting:
        work.append(gc.collect)
    with frozen_heap():
        repeat_in_threads(work, seconds)
        del connect_and_die, work
        gc.collect()
    answers = [answer for _, answer in signal.send(Sender) if answer is not None]
    assert answers == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("short_switch_interval")
@with_caching
def test_threads_that_find_something_dead(Signal, caching):
    """A thread that waited for the lock looks at the new list, not at the old one."""
    find_something_dead(Signal, caching)


@pytest.mark.usefixtures("short_switch_interval")
@with_caching
def test_threads_that_find_something_dead_on_stock_django(caching):
    """Stock Django keeps what the test above asserts."""
    find_something_dead(django.dispatch.Signal, caching, times=1)


def find_something_dead(signal_class, caching, times=6):
    """Let receivers die while eight threads use their signal."""

    def connect_and_disconnect():
        def passing(**kwargs):
            return None

        dying = lambda **kwargs: None  # noqa: E731
        signal.connect(dying, sender=Sender)
        del dying
        signal.connect(passing, sender=Sender)
        assert passing in [receiver for receiver, _ in signal.send(Sender)]
        assert signal.disconnect(passing, sender=Sender)
        assert passing not in [receiver for receiver, _ in signal.send(Sender)]

    # It's how the threads happen to start that decides whether they meet.
    for _ in range(times):
        signal = signal_class(use_caching=caching)
        repeat_in_threads([connect_and_disconnect] * 8, seconds=0.5)


@pytest.mark.usefixtures("short_switch_interval")
def test_threads_that_edit_the_list(Signal):
    """An edit by one thread counts for what another sends afterwards."""
    signal = Signal()
    for number in range(20):
        signal.connect(
            lambda number=number, **kwargs: number, sender=Sender, weak=False
        )
    order = list(range(20))
    errors = []
    turn = threading.Barrier(2, timeout=60)

    def edit():
        for _ in range(500):
            signal.receivers.insert(0, signal.receivers.pop())
            order.insert(0, order.pop())
            turn.wait()
            turn.wait()

    def busy():
        while editor.is_alive():
            signal.send(Sender)

    editor = threading.Thread(target=edit)
    sender = threading.Thread(target=busy)
    editor.start()
    sender.start()
    for _ in range(500):
        turn.wait()
        answers = [answer for _, answer in signal.send(Sender)]
        if answers != order:
            errors.append((answers, order[:]))
        turn.wait()
    editor.join()
    sender.join()
    assert not errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork()")
def test_forked_child_works_at_once(run_python):
    output = run_python(
        """
        import os, altdispatch
        from django.db.backends.signals import connection_created
        from django.db.models.signals import post_save

        def receiver(**kwargs):
            return "answer"

        altdispatch.install()
        for signal in (connection_created, post_save):
            signal.connect(receiver)
            signal.send(int)
        child = os.fork()
        if child == 0:
            for signal in (connection_created, post_save):
                assert signal.send(int) == [(receiver, "answer")]
                assert signal.disconnect(receiver)
                signal.connect(receiver, sender=str)
                assert signal.send(int) == []
                assert signal.send(str) == [(receiver, "answer")]
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert output == "7\n"


@pytest.mark.parametrize("how", ["exit", "error", "cycle", "thread", "atexit"])
def test_shutdown_writes_nothing(run_python, how):
    """With receivers of every kind connected to signals of every kind."""
    output = run_python(
        f"""
        import atexit, sys, threading, time, altdispatch
        from django.db.backends.signals import connection_created
        from django.db.models.signals import class_prepared, post_save, pre_save

        altdispatch.install()
        HOW = {how!r}

        class Holder:
            def method(self, **kwargs):
                pass
            def __del__(self):
                class_prepared.send(Holder)
                pre_save.send(Holder)

        def function(**kwargs):
            pass

        async def asynchronous(**kwargs):
            pass

        holder = Holder()
        for signal in (class_prepared, pre_save):
            signal.connect(function)
            signal.connect(holder.method, sender=Holder)
        own = altdispatch.Signal(use_caching=True)
        for signal in (connection_created, post_save, own):
            for receiver in (holder.method, function, asynchronous):
                signal.connect(receiver, sender=Holder)
                signal.connect(receiver, weak=False)
                signal.connect(lambda **kwargs: None)
            signal.has_listeners(Holder)
        for signal in (connection_created, post_save, own):
            signal.disconnect(asynchronous, sender=Holder)
            signal.disconnect(asynchronous)
            signal.send(Holder)
        if HOW == "cycle":
            holder.signal = own
            own.holder = holder
            sys.modules["kept"] = own
        if HOW == "thread":
            def send():
                while True:
                    own.send(Holder)
            threading.Thread(target=send, daemon=True).start()
        if HOW == "atexit":
            atexit.register(own.send, Holder)
        if HOW == "error":
            sys.exit(0)
        """,
        "-X",
        "dev",
        "-W",
        "error",
    )
    assert output == ""
