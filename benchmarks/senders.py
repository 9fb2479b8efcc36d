"""What does it cost to send where the sender isn't a plain class?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType

from django.dispatch import Signal

from benchmarks.rows import Body, Row
from benchmarks.send import answers, functions, time_has_listeners
from benchmarks.send_one import time_plain, time_send

TITLE = "Senders that aren't plain classes"


class WithEquality:
    """A sender with an equality of its own, as model instances have."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WithEquality) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


def make_module() -> ModuleType:
    """Return a sender that is a module."""
    return ModuleType("sender")


@contextmanager
def sending(caching: bool, make_sender: Callable[[], object]) -> Iterator[Body]:
    """A sender sends to three receivers."""
    signal = Signal(use_caching=caching)
    sender = make_sender()
    receivers = functions(3)
    for receiver in receivers:
        signal.connect(receiver, sender=sender)

    def answer() -> str:
        return answers(signal.send(sender=sender))

    yield Body(time_send(signal, sender), answer, time_plain(signal, receivers, sender))


@contextmanager
def calling_has_listeners(
    caching: bool, make_sender: Callable[[], object]
) -> Iterator[Body]:
    """Call ``has_listeners()`` for a sender with three receivers."""
    signal = Signal(use_caching=caching)
    sender = make_sender()
    receivers = functions(3)
    for receiver in receivers:
        signal.connect(receiver, sender=sender)
    yield Body(
        time_has_listeners(signal, sender), lambda: str(signal.has_listeners(sender))
    )


ROWS = [
    Row(f"{method}, {kind}, 3 receivers, {what}", partial(prepare, caching, make))
    for method, prepare in (("send", sending), ("has_listeners", calling_has_listeners))
    for kind, caching in (("caching", True), ("not caching", False))
    for what, make in (
        ("the sender has an __eq__", partial(WithEquality, 1)),
        ("the sender is a module", make_module),
    )
]
