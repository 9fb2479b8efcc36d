"""Signals of the operating system that are delivered at a known moment."""

from __future__ import annotations

import signal as signals
import sys
import threading
import time


def interrupt_main_thread(number: int) -> None:
    """Have the main thread run a signal's handler at once, or once its wait is over.

    In another thread, wait until the main thread waits for a condition. Interrupted
    just before, it couldn't restore the condition's lock.
    """
    if threading.current_thread() is not threading.main_thread():
        while not is_main_thread_waiting():
            time.sleep(0.001)
    # Unlike os.kill(), this doesn't wake up the main thread.
    signals.raise_signal(number)


def is_main_thread_waiting() -> bool:
    """Return whether it waits for a condition, as asgiref does in a synchronous send.

    Not for the start of a thread: interrupted there, an executor doesn't know of it.
    """
    ident = threading.main_thread().ident
    assert ident is not None
    frame = sys._current_frames()[ident]
    return (
        frame.f_code is threading.Condition.wait.__code__
        # Set last. Without it, the condition's lock may still be held.
        and frame.f_locals.get("gotit") is False
        and frame.f_back is not None
        and frame.f_back.f_code is not threading.Event.wait.__code__
    )
