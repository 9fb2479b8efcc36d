"""Metrics and spans for OpenTelemetry.

They have the attributes ``altdispatch.signal`` and ``code.function.name``, the names of
the signal and of the receiver.

.. versionadded:: 0.2
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from opentelemetry.metrics import (
    CallbackOptions,
    MeterProvider,
    Observation,
    get_meter,
)
from opentelemetry.trace import (
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer,
)

import altdispatch
from altdispatch import monitoring

from ._totals import Calls, Names, Sends, by_receiver, by_signal

_ATTRIBUTES = ("altdispatch.signal", "code.function.name")


def _observe(
    add_up: Callable[[Iterable[monitoring.SignalStats]], Mapping[Names, Calls | Sends]],
    field: str,
    options: CallbackOptions,
) -> Iterator[Observation]:
    for names, sums in add_up(monitoring.snapshot().signals).items():
        # A signal's have no receiver.
        attributes = dict(zip(_ATTRIBUTES, names, strict=False))
        yield Observation(getattr(sums, field), attributes)


_observe_calls = partial(_observe, by_receiver)
_observe_sends = partial(_observe, by_signal)
_COUNTERS = [
    ("receiver.calls", "{call}", partial(_observe_calls, "calls")),
    ("receiver.errors", "{call}", partial(_observe_calls, "errors")),
    ("receiver.duration", "s", partial(_observe_calls, "total")),
    ("receiver.own_duration", "s", partial(_observe_calls, "own")),
    ("sends", "{send}", partial(_observe_sends, "sends")),
    ("unheard_sends", "{send}", partial(_observe_sends, "unheard")),
]


def observe_signals(meter_provider: MeterProvider | None = None) -> None:
    """Export what :mod:`altdispatch.monitoring` has counted in this process.

    The metrics go to ``meter_provider``, or else to the global one. Call this once per
    process: instruments can't be removed. Each export takes a
    :func:`~altdispatch.monitoring.snapshot` per instrument. All instruments are
    observable counters:

    ``altdispatch.receiver.calls``, ``altdispatch.receiver.errors``
        Calls of receivers, and those that raised.
    ``altdispatch.receiver.duration``, ``altdispatch.receiver.own_duration``
        Seconds in receivers, with and without other receivers that they caused to be
        called.
    ``altdispatch.sends``, ``altdispatch.unheard_sends``
        Sends of signals, and those that reached no receiver.

    .. versionadded:: 0.2
    """
    meter = get_meter("altdispatch", altdispatch.__version__, meter_provider)
    for name, unit, observe in _COUNTERS:
        meter.create_observable_counter(f"altdispatch.{name}", [observe], unit)


def trace_slow_receivers(
    slower_than: float = 0.005, tracer_provider: TracerProvider | None = None
) -> monitoring.Subscription:
    """Make a span of each call of a receiver that takes ``slower_than`` seconds.

    The span is a child of the span that was current when the receiver was called, with
    the call's true start and end. If no span is recording there, none is made. It goes
    to ``tracer_provider``, or else to the global one. If the receiver raised, the span
    has the exception and the status ``ERROR``.

    Return what ends this when it's called, and at the end of a ``with`` block. Raise
    ``ValueError`` if ``slower_than`` is negative.

    .. versionadded:: 0.2
    """
    tracer = get_tracer("altdispatch", altdispatch.__version__, tracer_provider)

    def make_span(call: monitoring.Call) -> None:
        if not get_current_span().is_recording():
            return
        end = call.start_ns + round(call.duration * 1e9)
        names = (call.signal_name, call.receiver_name)
        span = tracer.start_span(
            call.receiver_name,
            start_time=call.start_ns,
            attributes=dict(zip(_ATTRIBUTES, names, strict=True)),
        )
        if call.error is not None:
            span.record_exception(call.error, timestamp=end)
            span.set_status(StatusCode.ERROR)
        span.end(end)

    return monitoring.subscribe(make_span, slower_than)
