"""Metrics for Prometheus, read when it scrapes.

.. versionadded:: 0.2
"""

from __future__ import annotations

from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from altdispatch import monitoring

from ._totals import Calls, by_receiver, by_signal

# In nanoseconds, from 1 µs to 17 s. Every other bucket of monitoring is enough: each is
# a time series of its own for each receiver.
_BOUNDS = [1 << exponent for exponent in range(10, 35, 2)]


class SignalCollector:
    """Collect what :mod:`altdispatch.monitoring` has counted in this process.

    Register it once: ``prometheus_client.REGISTRY.register(SignalCollector())``. Each
    scrape takes one :func:`~altdispatch.monitoring.snapshot`. While monitoring is
    disabled, the values stay as they are. The metrics are:

    ``altdispatch_receiver_duration_seconds``
        A histogram with the labels ``signal`` and ``receiver``. Its ``_count`` is the
        number of calls. A duration includes other receivers that the call has caused.
    ``altdispatch_receiver_own_seconds_total``
        A counter with the same labels: the time without those other receivers.
    ``altdispatch_receiver_errors_total``
        A counter with the same labels: calls that raised.
    ``altdispatch_sends_total``, ``altdispatch_unheard_sends_total``
        Counters with the label ``signal``: all sends, and those without a receiver.

    Registering a second one in the same registry raises the ``ValueError`` of
    prometheus_client for duplicates.

    .. versionadded:: 0.2
    """

    def describe(self) -> list[Metric]:
        """Return the metrics without values, for the registry to find duplicates."""
        return _metrics(())

    def collect(self) -> list[Metric]:
        """Return the metrics with what has been counted so far."""
        return _metrics(monitoring.snapshot().signals)


def _metrics(signals: tuple[monitoring.SignalStats, ...]) -> list[Metric]:
    names = ["signal", "receiver"]
    durations = HistogramMetricFamily(
        "altdispatch_receiver_duration_seconds",
        "Duration of calls of receivers.",
        labels=names,
    )
    own = CounterMetricFamily(
        "altdispatch_receiver_own_seconds",
        "Time in receivers, without other receivers that they caused to be called.",
        labels=names,
    )
    errors = CounterMetricFamily(
        "altdispatch_receiver_errors", "Calls of receivers that raised.", labels=names
    )
    for labels, calls in by_receiver(signals).items():
        durations.add_metric(labels, _cumulated(calls), calls.total)
        own.add_metric(labels, calls.own)
        errors.add_metric(labels, calls.errors)
    sent = CounterMetricFamily(
        "altdispatch_sends", "Sends of signals.", labels=names[:1]
    )
    unheard = CounterMetricFamily(
        "altdispatch_unheard_sends",
        "Sends of signals that reached no receiver.",
        labels=names[:1],
    )
    for labels, sends in by_signal(signals).items():
        sent.add_metric(labels, sends.sends)
        unheard.add_metric(labels, sends.unheard)
    return [durations, own, errors, sent, unheard]


def _cumulated(calls: Calls) -> list[tuple[str, float]]:
    """Return buckets that include all shorter calls, as Prometheus has them."""
    buckets = [
        (str(bound / 1e9), sum(n for ns, n in calls.buckets.items() if ns <= bound))
        for bound in _BOUNDS
    ]
    return [*buckets, ("+Inf", calls.calls)]
