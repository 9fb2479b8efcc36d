"""Test the counts of sends, calls and errors, and the numbers made of them."""

import json
import sys
import threading

import pytest

from altdispatch import monitoring
from altdispatch.hybrid import hybrid

from .helpers import (
    WAYS,
    Sender,
    counted,
    failing,
    failing_async,
    plain,
    send,
    stats_of,
    waiting,
)


@pytest.mark.parametrize("way", WAYS)
def test_sends_and_calls_are_counted(signal, way):
    signal.connect(plain)
    signal.connect(waiting, sender=Sender)
    for _ in range(3):
        send(way, signal)
    assert counted(signal) == (3, 0, {"plain": (3, 0), "waiting": (3, 0)})


@pytest.mark.parametrize("way", WAYS)
def test_hybrid_receivers_have_a_row_for_each_side(signal, way):
    signal.connect(receiver := hybrid(failing, waiting))
    for _ in range(3):
        send(way, signal)
    side = {"failing": (3, 3)} if not way.startswith("a") else {"waiting": (3, 0)}
    assert counted(signal) == (3, 0, side), receiver


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("connected", ["nobody", "for another sender"])
def test_sends_that_nobody_hears(signal, way, connected):
    if connected != "nobody":
        signal.connect(plain, sender=signal)
    for _ in range(3):
        assert send(way, signal) == []
    assert counted(signal) == (3, 3, {})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("receiver", [failing, failing_async])
def test_errors_are_counted(signal, way, receiver):
    signal.connect(receiver)
    outcome = send(way, signal)
    assert isinstance(outcome[0][1] if "robust" in way else outcome, ValueError)
    assert counted(signal) == (1, 0, {receiver.__name__: (1, 1)})


@pytest.mark.parametrize("way", ["send", "send_robust"])
def test_what_is_no_exception_is_an_error_too(signal, way):
    def interrupted(**kwargs):
        raise KeyboardInterrupt

    signal.connect(interrupted)
    with pytest.raises(KeyboardInterrupt):
        getattr(signal, way)(Sender)
    assert counted(signal) == (1, 0, {"interrupted": (1, 1)})


def test_threads(signal):
    def receiver(**kwargs):
        pass

    signal.connect(receiver)

    def work():
        for _ in range(500):
            signal.send(Sender)
            monitoring.snapshot()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (stats,) = stats_of(signal).receivers
    if sys.implementation.name == "pypy":
        # It switches threads while a number is being added to, and there is no lock.
        assert 0 < stats.calls <= 2000
    else:
        assert stats.calls == 2000


def make_stats(**counts):
    buckets = tuple((float(2**n), counts.get(f"b{n}", 0)) for n in range(6))
    calls = sum(count for _, count in buckets)
    return monitoring.ReceiverStats(
        "name", None, False, calls, 0, 1.0, 30.0, 1.0, buckets
    )


def test_quantiles():
    stats = make_stats(b2=50, b3=49, b5=1)
    assert stats.quantile(0.5) == 4
    assert 4 < stats.quantile(0.51) < 8
    assert stats.quantile(0.99) == 8
    assert stats.quantile(1) == 30
    assert make_stats().quantile(0.5) == 30.0
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            stats.quantile(wrong)


def test_as_dict_is_for_json(signal):
    signal.connect(plain)
    signal.send(Sender)
    found = json.loads(json.dumps(monitoring.snapshot().as_dict()))
    assert found["signals"][0]["receivers"][0]["name"] == f"{plain.__module__}.plain"
    (stats,) = monitoring.snapshot().signals
    assert stats.as_dict() == monitoring.snapshot().as_dict()["signals"][0]
    assert stats.receivers[0].as_dict()["calls"] == 1
