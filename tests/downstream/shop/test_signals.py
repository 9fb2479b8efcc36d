"""Use the fixtures for pytest."""

from collections.abc import Callable
from typing import Any

from altdispatch.utils import Sent

from .signals import order_placed


def test_fixtures(
    mute_signals: Callable[..., None],
    connect_receiver: Callable[..., Callable[..., Any]],
    record_signals: Callable[..., list[Sent]],
) -> None:
    sends = record_signals(order_placed)
    mute_signals(order_placed)
    order_placed.send(None)
    assert [sent.answers for sent in sends] == [[]]
