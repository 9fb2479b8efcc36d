"""Find patches of the look-up of receivers."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from typing import Any

from django.dispatch import Signal

from .dispatcher import OWN_CLEAR_DEAD_RECEIVERS, OWN_LIVE_RECEIVERS
from .naming import (
    dotted,
    find_importable_signals,
    find_subclasses,
    name_patch,
    name_signals,
    read_class,
    read_instance,
    read_mro,
)

# The methods of the look-up, and the functions that aren't patches of them.
_UNPATCHED: dict[str, dict[int, Any]] = {
    "_live_receivers": OWN_LIVE_RECEIVERS,
    "_clear_dead_receivers": OWN_CLEAR_DEAD_RECEIVERS,
}


def find_signals() -> list[Signal]:
    """Return every instance of Django's ``Signal``, and of its subclasses.

    After a ``gc.freeze()``, as servers call before they fork, it finds only those that
    can be imported or were created later.
    """
    found = {id(signal): signal for signal in find_importable_signals()}
    for thing in gc.get_objects():
        # Not isinstance(), which would evaluate lazy objects.
        if issubclass(type(thing), Signal):
            found[id(thing)] = thing
    return [*found.values()]


def name_patches(signals: Iterable[Signal]) -> list[tuple[str, str, str]]:
    """Return the names of class or signal, method and patch, for each patched look-up.

    It covers all classes of signals, and those of ``signals`` that have a name.
    """
    patches = _find_patches(signals)
    signal_names = name_signals([owner for owner, _, _ in patches])
    named = []
    for owner, method, patch in patches:
        is_class = issubclass(type(owner), type)
        name = dotted(owner) if is_class else signal_names.get(id(owner))
        if name is not None:
            named.append((name, method, name_patch(patch)))
    return named


def _find_patches(signals: Iterable[Signal]) -> list[tuple[Any, str, Any]]:
    """Return the class or signal, the method's name and the patch, for each patch.

    Call it while altdispatch is installed: otherwise Django's own methods count as
    patches.
    """
    classes = {
        id(base): base for cls in find_subclasses(Signal) for base in read_mro(cls)
    }
    owners: list[tuple[Any, Mapping[str, Any]]] = [
        (cls, read_class(cls)) for cls in classes.values()
    ]
    owners += [(signal, read_instance(signal)) for signal in signals]
    return [
        (owner, name, variables[name])
        for owner, variables in owners
        for name, own in _UNPATCHED.items()
        if name in variables and id(variables[name]) not in own
    ]
