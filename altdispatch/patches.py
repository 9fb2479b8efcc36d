"""What others have put in the place of what the fast path does without."""

from __future__ import annotations

import gc
from typing import Any

from django.dispatch import Signal

from .dispatcher import OWN_CLEAR_DEAD_RECEIVERS, OWN_LIVE_RECEIVERS

# What each of these methods has to be.
_NEEDED: dict[str, list[Any]] = {
    "_live_receivers": OWN_LIVE_RECEIVERS,
    "_clear_dead_receivers": OWN_CLEAR_DEAD_RECEIVERS,
}


def find_signals() -> list[Signal]:
    """Return every instance of Django's ``Signal``, and of its subclasses."""
    # By the type: isinstance() would wake lazy objects.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Signal)]


def find_patches() -> list[tuple[Any, Any]]:
    """Return what takes the fast path away, after the class or signal that has it.

    That is while the dispatcher is swapped. Otherwise it's Django's own methods.
    """
    signals = find_signals()
    classes = {base for signal in signals for base in type(signal).__mro__}
    return [
        (owner, vars(owner)[name])
        for owner in (*classes, *signals)
        for name, own in _NEEDED.items()
        if name in vars(owner) and vars(owner)[name] not in own
    ]
