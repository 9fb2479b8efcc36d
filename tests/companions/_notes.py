"""What companions write down."""

import weakref
from collections.abc import Callable
from typing import Any

from django.dispatch import Signal

from tests.system.recording import describe


class Notes(list[Any]):
    """What was seen, in its order, as plain values."""

    def listen(self, name: str, signal: Signal, **options: Any) -> Callable[..., Any]:
        """Connect a receiver that writes down what it's called with, and return it."""

        def receive(**arguments: Any) -> str:
            self.append([name, arguments["signal"] is signal, describe(arguments)])
            return f"noted by {name}"

        receive.__qualname__ = name
        signal.connect(receive, **{"weak": False, **options})
        return receive

    def listen_to(self, signals: dict[str, Signal]) -> None:
        """Connect such a receiver to each signal, under its name."""
        for name, signal in signals.items():
            self.listen(name, signal)

    def take(self) -> list[Any]:
        """Return what has been written down since the last time."""
        taken = self[:]
        self.clear()
        return taken


def receivers_of(signal: Signal) -> list[str]:
    """Return the names of all that is connected to a signal, in the signal's order."""
    receivers = [entry[1] for entry in signal.receivers]
    live = [
        receiver() if isinstance(receiver, weakref.ref) else receiver
        for receiver in receivers
    ]
    # "func" is what a partial calls.
    return [getattr(receiver, "func", receiver).__qualname__ for receiver in live]
