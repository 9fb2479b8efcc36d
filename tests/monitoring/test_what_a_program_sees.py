"""Test that a program behaves as without monitoring."""

import asyncio
import gc
import sys

import pytest
from asgiref.sync import markcoroutinefunction

from altdispatch import monitoring, together

from ..implementations import COUNTS_REFERENCES
from .helpers import WAYS, Sender, counted, failing, failing_async, plain, send, waiting


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("receiver", [failing, failing_async])
def test_traceback_is_as_without(Signal, way, receiver):
    def names(is_on):
        together._left_to_django.clear()
        (monitoring.enable if is_on else monitoring.disable)()
        signal = Signal()
        signal.connect(receiver)
        error = send(way, signal)
        if isinstance(error, list):
            error = error[0][1]
        found = []
        traceback = error.__traceback__
        while traceback is not None:
            found.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        return found, repr(error.__context__)

    assert names(True) == names(False)


def test_awaitables_that_are_no_coroutines(signal):
    @markcoroutinefunction
    def gives_future(**kwargs):
        future = asyncio.get_running_loop().create_future()
        future.set_result("future")
        return future

    signal.connect(gives_future)
    assert asyncio.run(signal.asend(Sender)) == [(gives_future, "future")]
    assert counted(signal) == (1, 0, {})


@pytest.mark.skipif(
    not COUNTS_REFERENCES, reason="PyPy warns at a time of its own, in another test"
)
def test_coroutine_that_is_never_awaited_warns_once(signal, recwarn):
    @markcoroutinefunction
    def fails(**kwargs):
        raise ValueError("before it returns a coroutine")

    signal.connect(waiting)
    signal.connect(fails)
    assert isinstance(send("asend", signal), ValueError)
    gc.collect()
    messages = [str(warning.message) for warning in recwarn]
    assert messages.count("coroutine 'waiting' was never awaited") == 1


def test_a_coroutine_has_no_finalizer_once_it_was_started(signal):
    """An interrupt of one is lost."""

    async def receiver(**kwargs):
        return sys._getframe(1).f_locals["unstarted"]

    signal.connect(receiver)
    ((_, started),) = asyncio.run(signal.asend(Sender))
    assert not hasattr(started, "__del__")


def test_greenlets_that_can_not_be_hashed(signal):
    greenlet = pytest.importorskip("greenlet")

    class Greenlet(greenlet.greenlet):
        def __eq__(self, other):
            raise AssertionError("not asked")

    signal.connect(plain)
    monitoring.enable()
    ((_, answer),) = Greenlet(lambda: signal.send(Sender)).switch()
    assert answer == "plain"
