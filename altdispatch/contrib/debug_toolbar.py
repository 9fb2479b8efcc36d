"""A panel of django-debug-toolbar: the receivers that a request called.

.. versionadded:: 0.2
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from heapq import nlargest
from operator import attrgetter
from typing import Any

from debug_toolbar.panels import Panel
from django.http import HttpRequest, HttpResponse

from altdispatch import monitoring
from altdispatch.naming import dotted
from altdispatch.timeline import MOST_CALLS, find_depths, order

_BAR_HEIGHT = 20
# All are light enough for black text.
_COLORS = [
    *("#56b4e9", "#e69f00", "#2fbf8f", "#f0e442"),
    *("#cc79a7", "#f28e63", "#9aa5ff", "#b8b8b8"),
]

_current: ContextVar[ReceiversPanel | None] = ContextVar("current", default=None)


class ReceiversPanel(Panel):
    """Show which receivers a request called, in order, nested, and how long they took.

    Add ``"altdispatch.contrib.debug_toolbar.ReceiversPanel"`` to the setting
    ``DEBUG_TOOLBAR_PANELS``. Calls belong to a request if they are made in its thread
    or task, or in one that inherits its context variables, as tasks of asyncio and
    ``sync_to_async()`` do. Monitoring need not be enabled: the panel times the calls
    itself while its request lasts.

    .. versionadded:: 0.2
    """

    title = "Signal receivers"
    template = "altdispatch/receivers_panel.html"
    is_async = True

    @property
    def nav_subtitle(self) -> str:
        return "{count} calls in {own}".format_map(self.get_stats())

    def enable_instrumentation(self) -> None:
        self._calls: list[monitoring.Call] = []
        self._token = _current.set(self)
        self._unsubscribe = monitoring.subscribe(self._keep, slower_than=0)

    def disable_instrumentation(self) -> None:
        self._unsubscribe()
        _current.reset(self._token)

    def _keep(self, call: monitoring.Call) -> None:
        if _current.get() is self:
            self._calls.append(call)

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        self.record_stats(_describe(self._calls))


def _describe(calls: Iterable[monitoring.Call]) -> dict[str, Any]:
    """Return what the template shows, as plain values: the toolbar stores JSON."""
    calls = sorted(calls, key=order)
    signals = _add_up(calls)
    longest = nlargest(MOST_CALLS, calls, key=attrgetter("duration"))
    drawn = _draw(sorted(longest, key=order), signals)
    return {
        "count": len(calls),
        "own": _milliseconds(sum(call.own for call in calls)),
        "signals": [
            {**signal, "own": _milliseconds(signal["own"])}
            for signal in signals.values()
        ],
        "calls": drawn,
        "height": max((call["y"] for call in drawn), default=0) + _BAR_HEIGHT,
    }


def _add_up(calls: Iterable[monitoring.Call]) -> dict[str, dict[str, Any]]:
    """Return totals by the signal's name, in the order of the first calls."""
    signals: dict[str, dict[str, Any]] = {}
    for call in calls:
        name = call.signal_name
        if name not in signals:
            color = _COLORS[len(signals) % len(_COLORS)]
            counts = {"calls": 0, "errors": 0, "own": 0.0}
            signals[name] = {"name": name, "color": color, **counts}
        signals[name]["calls"] += 1
        signals[name]["errors"] += call.error is not None
        signals[name]["own"] += call.own
    return signals


def _draw(
    calls: Sequence[monitoring.Call], signals: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the calls with their places in the picture, in per cent of its width."""
    first = min((call.start for call in calls), default=0)
    # At least a nanosecond, the resolution of the clock.
    width = max([1e-9, *(call.start + call.duration - first for call in calls)])
    depths = find_depths((call.start, call.duration) for call in calls)
    return [
        {
            "signal": call.signal_name,
            "short_signal": _shorten(call.signal_name),
            "color": signals[call.signal_name]["color"],
            "receiver": call.receiver_name,
            "place": call.place or "",
            "sender": dotted(call.sender),
            "short_sender": _shorten(dotted(call.sender)),
            "is_async": call.is_async,
            "error": type(call.error).__name__ if call.error is not None else "",
            "start": _milliseconds(call.start - first),
            "duration": _milliseconds(call.duration),
            "indent": "\N{EM SPACE}" * depth,
            "x": f"{(call.start - first) / width:.4%}",
            "y": depth * _BAR_HEIGHT,
            "width": f"{call.duration / width:.4%}",
        }
        for call, depth in zip(calls, depths, strict=True)
    ]


def _shorten(name: str) -> str:
    return name.rpartition(".")[2]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}\N{NO-BREAK SPACE}ms"
