"""Counts by name, as time series need them.

Different receivers may have one name, such as lambdas of a module; different time
series may not. So what has the same name is added up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from altdispatch.monitoring import SignalStats

Names = tuple[str, ...]


@dataclass
class Sends:
    """What signals of one name sent."""

    sends: int = 0
    unheard: int = 0


@dataclass
class Calls:
    """What receivers of one name did. The keys of ``buckets`` are nanoseconds."""

    calls: int = 0
    errors: int = 0
    total: float = 0.0
    own: float = 0.0
    buckets: Counter[int] = field(default_factory=Counter)


def by_signal(signals: Iterable[SignalStats]) -> Mapping[Names, Sends]:
    """Return the sums by the name of the signal."""
    found: defaultdict[Names, Sends] = defaultdict(Sends)
    for signal in signals:
        sends = found[signal.name,]
        sends.sends += signal.sends
        sends.unheard += signal.unheard
    return found


def by_receiver(signals: Iterable[SignalStats]) -> Mapping[Names, Calls]:
    """Return the sums by the names of signal and receiver."""
    found: defaultdict[Names, Calls] = defaultdict(Calls)
    for signal in signals:
        for receiver in signal.receivers:
            calls = found[signal.name, receiver.name]
            calls.calls += receiver.calls
            calls.errors += receiver.errors
            calls.total += receiver.total
            calls.own += receiver.own
            for upper, count in receiver.buckets:
                if count:
                    calls.buckets[round(upper * 1e9)] += count
    return found
