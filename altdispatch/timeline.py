"""Timelines of calls, for the page of a profile and the panel of the debug toolbar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

#: How many calls a timeline has at most. A page with more would take long to open.
MOST_CALLS = 500


def order(call: Any) -> tuple[float, float]:
    """Return a key that sorts calls by start, and outer calls before inner ones."""
    return call.start, -call.duration


def find_depths(spans: Iterable[tuple[float, float]]) -> Iterator[int]:
    """Yield the depth of each call, given the starts and durations of sorted calls.

    A call is one level below the calls that are still running when it starts. So
    concurrent calls count as nested, and no call is drawn over another.
    """
    around: list[tuple[int, float]] = []
    for start, duration in spans:
        around = [(depth, end) for depth, end in around if end > start]
        depth = around[-1][0] + 1 if around else 0
        around.append((depth, start + duration))
        yield depth
