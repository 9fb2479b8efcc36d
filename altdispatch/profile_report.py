"""What a profile says, in tables and sentences."""

from __future__ import annotations

from statistics import median
from typing import Any

from .profiling import Profile

# With fewer pairs of times, even the least and the greatest aren't bounds for 95 %.
FEWEST = 6


def give_title(found: Profile) -> str:
    """Return what was done, and how long it took on stock Django."""
    whole = format_time(median(found.stock))
    if found.status is None:
        return f"{found.work}: {whole} on stock Django"
    title = f"{found.work}: status {found.status}, {whole} on stock Django"
    if found.status != 200:
        title += f"\nThe status is {found.status}, not 200: is that what you want?"
    return title


def name_unit(found: Profile) -> str:
    """Return what the figures are per: a run of a command, or a request."""
    return "run" if found.status is None else "request"


def list_receivers(found: Profile) -> list[list[str]]:
    """Return a row of headings, and one for each receiver, the slowest first."""
    receivers = [
        (signal["name"], receiver)
        for signal in found.signals
        for receiver in signal["receivers"]
    ]
    receivers.sort(key=lambda each: each[1]["own"], reverse=True)
    head = ["receiver", "own", "total", "calls", "median", "99 %", "longest", "errors"]
    return [[*head, "signal"]] + [
        [
            receiver["name"],
            format_time(receiver["own"] / found.times),
            format_time(receiver["total"] / found.times),
            _format_count(receiver["calls"] / found.times),
            format_time(receiver["median"]),
            format_time(receiver["percentile_99"]),
            format_time(receiver["longest"]),
            _format_count(receiver["errors"] / found.times),
            signal,
        ]
        for signal, receiver in receivers
    ]


def list_sends(found: Profile) -> list[list[str]]:
    """Return a row for each signal, after one of headings."""

    def sum_up(signal: dict[str, Any]) -> list[str]:
        calls = sum(receiver["calls"] for receiver in signal["receivers"])
        counts = signal["sends"], signal["unheard"], calls
        return [signal["name"], *(_format_count(each / found.times) for each in counts)]

    head = ["signal", "sent", "without receivers", "receivers called"]
    return [head, *(sum_up(signal) for signal in found.signals)]


def give_verdict(found: Profile) -> str:
    """Return, in one line, whether altdispatch is worth it for speed."""
    if not found.signals:
        return "Not worth it here: no signal is sent."
    saved, least, most = found.saved()
    whole = median(found.stock)
    is_clear = found.times >= FEWEST and not least <= 0 <= most
    is_slower = is_clear and most < 0
    if is_slower:
        saved, least, most = -saved, -most, -least
    share = f"{format_time(saved)} of {format_time(whole)}, {saved / whole:.1%}"
    bounds = f"95 %: {format_time(least)} to {format_time(most)}"
    if not is_clear:
        return f"Not worth it here: no measurable difference ({share}; {bounds})."
    if is_slower:
        return f"Not worth it here: altdispatch is slower by {share} ({bounds})."
    if saved < whole / 100:
        return f"Not worth it here: altdispatch saves {share} ({bounds})."
    return f"Worth it here: altdispatch saves {share} ({bounds})."


def format_time(seconds: float) -> str:
    """Return a time for people."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _format_count(count: float) -> str:
    return f"{count:,.4g}"
