"""Signals, receivers and counts for the tests of monitoring."""

import asyncio
import time

from altdispatch import monitoring, rows

WAYS = ["send", "send_robust", "asend", "asend_robust"]


class Sender:
    pass


def plain(**kwargs):
    return "plain"


def slow(**kwargs):
    time.sleep(0.01)


def failing(**kwargs):
    raise ValueError("no")


async def waiting(**kwargs):
    await asyncio.sleep(0.01)
    return "waiting"


async def failing_async(**kwargs):
    raise ValueError("no")


def send(way, signal, **named):
    """Send in one of the four ways, and return the responses or the error."""
    try:
        result = getattr(signal, way)(Sender, **named)
        return asyncio.run(result) if way.startswith("a") else result
    except Exception as error:
        return error


def stats_of(signal):
    """Return what was counted of a signal: of all in the snapshot, its own."""
    row = rows.find_signal(signal)
    name = row.name
    row.name = "this"
    try:
        (stats,) = [one for one in monitoring.snapshot().signals if one.name == "this"]
    finally:
        row.name = name
    return stats


def counted(signal):
    """Return sends, those nobody heard, and receivers with their calls and errors."""
    stats = stats_of(signal)
    receivers = {
        one.name.rpartition(".")[2]: (one.calls, one.errors) for one in stats.receivers
    }
    return stats.sends, stats.unheard, receivers
