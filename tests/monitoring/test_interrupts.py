"""Test errors of signal handlers that interrupt a send while monitoring is on."""

import gc
import logging
import signal as os_signal
import sys
from types import SimpleNamespace

import pytest

from altdispatch import monitoring

from .helpers import Sender, failing, plain, stats_of


def count_interrupts(use, kind):
    """Have a signal handler raise while something is used, 300 times; count the errors.

    Those that come out.
    """
    state = SimpleNamespace(is_armed=False)

    def interrupt(number, frame):
        if state.is_armed:
            state.is_armed = False
            raise kind

    def use_until_interrupted():
        state.is_armed = True
        while state.is_armed:
            use()

    before = os_signal.signal(os_signal.SIGALRM, interrupt)
    interrupted = 0
    # Callbacks of weak references would swallow it.
    gc.collect()
    gc.disable()
    try:
        os_signal.setitimer(os_signal.ITIMER_REAL, 0.001, 0.00037)
        for _ in range(300):
            try:
                use_until_interrupted()
            except kind:
                interrupted += 1
    finally:
        os_signal.setitimer(os_signal.ITIMER_REAL, 0)
        os_signal.signal(os_signal.SIGALRM, before)
        gc.enable()
    return interrupted


needs_interrupts = pytest.mark.skipif(
    sys.platform == "win32" or sys.implementation.name == "pypy",
    reason="needs setitimer(); PyPy's Context.run() is in Python, and leaves a context "
    "if interrupted",
)


@needs_interrupts
@pytest.mark.parametrize("way", ["send", "send_robust"])
def test_interrupts_come_out_of_the_send(Signal, way):
    """At any moment, also while subscribers are called; nothing is left behind."""

    class Interrupt(BaseException):
        pass

    # A signal that doesn't cache takes its lock, which an interrupt may leave locked,
    # as with Django.
    signal = Signal(use_caching=True)
    signal.connect(plain)
    signal.connect(failing if way == "send_robust" else plain, dispatch_uid="again")
    logging.getLogger("django.dispatch").disabled = True
    try:
        with monitoring.subscribe(lambda call: call.receiver_name, slower_than=0):
            count = count_interrupts(lambda: getattr(signal, way)(Sender), Interrupt)
    finally:
        logging.getLogger("django.dispatch").disabled = False
    assert count == 300
    monitoring.reset()
    signal.send_robust(Sender)
    assert stats_of(signal).sends == 1


@needs_interrupts
def test_exceptions_of_signal_handlers_come_out_of_the_send(Signal):
    """As that of a soft time limit, also while a receiver is looked up."""

    class Limit(Exception):
        pass

    signal = Signal(use_caching=True)
    # More than compiled code remembers.
    for number in range(1500):
        signal.connect(lambda **kwargs: None, weak=False, dispatch_uid=number + 1)
    assert count_interrupts(lambda: signal.send(Sender), Limit) == 300
