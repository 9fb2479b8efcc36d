"""Record what companions observe."""

import weakref
from collections.abc import Callable
from typing import Any

from django.dispatch import Signal

from tests.system.recording import describe


class Notes(list[Any]):
    """The observations in order, as plain values."""

    def listen(self, name: str, signal: Signal, **options: Any) -> Callable[..., Any]:
        """Connect a receiver that records its arguments, and return it."""

        def receive(**arguments: Any) -> str:
            self.append([name, arguments["signal"] is signal, describe(arguments)])
            return f"noted by {name}"

        receive.__qualname__ = name
        signal.connect(receive, **{"weak": False, **options})
        return receive

    def listen_to(self, signals: dict[str, Signal]) -> None:
        """Connect such a receiver to each signal."""
        for name, signal in signals.items():
            self.listen(name, signal)

    def take(self) -> list[Any]:
        """Return the observations since the last call."""
        taken = self[:]
        self.clear()
        return taken


def receivers_of(signal: Signal) -> list[str]:
    """Return the names of a signal's receivers, in order."""
    receivers = [entry[1] for entry in signal.receivers]
    live = [
        receiver() if isinstance(receiver, weakref.ref) else receiver
        for receiver in receivers
    ]
    # A partial has no name, so use that of its function.
    return [getattr(receiver, "func", receiver).__qualname__ for receiver in live]
