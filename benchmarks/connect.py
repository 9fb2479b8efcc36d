"""How long do connect(), the first send and disconnect() take with many senders?

One receiver is connected to each of N senders of a caching signal, such as Django's
model signals, as an audit log of N models does. The time is that of one of the N calls.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

from django.dispatch import Signal
from pyperf import perf_counter

from benchmarks.rows import Body, Row, Timer, make_receiver

TITLE = "Connecting many senders"

Step = Callable[[Signal, Sequence[type]], None]

receiver = make_receiver("heard")


def connect(signal: Signal, senders: Sequence[type]) -> None:
    """Connect the receiver to every sender."""
    for sender in senders:
        signal.connect(receiver, sender=sender)


def send(signal: Signal, senders: Sequence[type]) -> None:
    """Send once from every sender."""
    for sender in senders:
        signal.send(
            sender=sender,
            instance=None,
            created=False,
            update_fields=None,
            raw=False,
            using="default",
        )


def disconnect(signal: Signal, senders: Sequence[type]) -> None:
    """Disconnect the receiver from every sender, in the order of connecting."""
    for sender in senders:
        signal.disconnect(receiver, sender=sender)


def disconnect_in_reverse(signal: Signal, senders: Sequence[type]) -> None:
    """Disconnect the receiver from every sender, the last connected first."""
    for sender in reversed(senders):
        signal.disconnect(receiver, sender=sender)


def time_last(steps: Sequence[Step], senders: Sequence[type]) -> Timer:
    """Return a timer of the last step, with a new signal in each pass."""

    def time(loops: int) -> float:
        seconds = 0.0
        for _ in range(loops):
            signal = Signal(use_caching=True)
            for step in steps[:-1]:
                step(signal, senders)
            start = perf_counter()
            steps[-1](signal, senders)
            seconds += perf_counter() - start
        return seconds

    return time


def outcome(steps: Sequence[Step], senders: Sequence[type]) -> str:
    """Do the steps with a few senders; return how many receivers are then called."""
    signal = Signal(use_caching=True)
    few = senders[:20]
    for step in steps:
        step(signal, few)
    heard = sum(len(signal.send(sender=sender)) for sender in few)
    return f"{len(signal.receivers)} connected, {heard} heard"


@cache
def make_senders(number: int) -> list[type]:
    """Return this number of senders, the same ones for every row."""
    return [type(f"Model{index}", (), {}) for index in range(number)]


@contextmanager
def with_senders(number: int, steps: Sequence[Step]) -> Iterator[Body]:
    """Do the steps with this number of senders."""
    senders = make_senders(number)
    yield Body(time=time_last(steps, senders), answer=lambda: outcome(steps, senders))


QUESTIONS: dict[str, list[Step]] = {
    "connect": [connect],
    "first send": [connect, send],
    "disconnect": [connect, disconnect],
    "disconnect in reverse": [connect, disconnect_in_reverse],
}

ROWS = [
    Row(
        f"{what}, {number:,} senders",
        partial(with_senders, number, steps),
        calls=number,
        headline=number == 1000,
        heavy=number > 1000,
    )
    for what, steps in QUESTIONS.items()
    for number in (100, 1000, 10_000)
]
