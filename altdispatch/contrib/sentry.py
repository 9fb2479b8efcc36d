"""Spans of slow receivers, for Sentry.

.. versionadded:: 0.2
"""

from __future__ import annotations

import sentry_sdk

from altdispatch import monitoring


def trace_slow_receivers(slower_than: float = 0.005) -> monitoring.Subscription:
    """Make a span of each call of a receiver that takes ``slower_than`` seconds.

    The span is a child of the current span or transaction, with the call's true start
    and end, the operation ``event.django``, and the signal in its data. If the receiver
    raised, its status is ``internal_error``. No span is made outside of a sampled
    transaction, and with ``trace_lifecycle="stream"``, whose spans always start now.

    Give Sentry's integration ``signals_spans=False``: it would make a span of each call
    as well, at a cost for each.

    Return what ends this when it's called, and at the end of a ``with`` block. Raise
    ``ValueError`` if ``slower_than`` is negative.

    .. versionadded:: 0.2
    """
    return monitoring.subscribe(_make_span, slower_than)


def _make_span(call: monitoring.Call) -> None:
    parent = sentry_sdk.get_current_span()
    if parent is None or not parent.sampled:
        return
    start = call.start_ns / 1e9
    span = parent.start_child(
        op="event.django",
        name=call.receiver_name,
        origin="auto.event.altdispatch",
        start_timestamp=start,
    )
    span.set_data("signal", call.signal_name)
    if call.error is not None:
        span.set_status("internal_error")
    span.finish(end_timestamp=start + call.duration)
