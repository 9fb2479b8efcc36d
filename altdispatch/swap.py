"""Put altdispatch in the place of Django's dispatcher, and take it out again.

Django's ``Signal`` stays the class that it is, as do its instances, subclasses
and all names for it. Only its methods are exchanged, by one assignment each.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from types import FunctionType
from typing import Any, TypeGuard

import django
import django.dispatch.dispatcher as stock

from . import dispatcher, implementations
from .implementations import graft
from .naming import (
    dotted,
    find_importable_signals,
    name_patch,
    name_signals,
    read_instance,
)
from .patches import find_patches, find_signals
from .receivers import give_back_lists

# By what _digest() gives, the dispatchers that altdispatch can stand in for, and
# the releases that have them.
_KNOWN = {
    "f11e4c3497d46d6d": "5.2",
    "b8fc4b9224a8a495": "6.0",
    "c4eaeafc7e79824d": "6.1",
}

# Swapping back and forth takes the same grafts again.
_graft = cache(graft)

_lock = threading.Lock()
# What was swapped: by class, the methods by name, Django's own and what stands in their
# place. It's one class, unless a program has reloaded Django's dispatcher.
_swapped: dict[type, dict[str, tuple[FunctionType, FunctionType]]] = {}
# Django's own _live_receivers functions, kept once found: see _lend().
_djangos_lookups: list[FunctionType] = []
# What takes back from these functions what _lend() has lent them.
_take_back: list[Callable[[], None]] = []


@dataclass(frozen=True)
class Status:
    """What ``status()`` tells; as a string, for people.

    Attributes:

        installed
            Whether Django's signals are dispatched by altdispatch.
        implementation
            The one in use: ``"c"``, with the hot paths compiled, or ``"python"``.
        reason
            Why it's that one.
        known
            Whether altdispatch knows the dispatcher of this Django.
        django, python
            The versions of both.
        swapped
            The names of the methods of ``Signal`` that are altdispatch's.
        left_alone
            What somebody else has put in the place of a method, by its name.
        patched
            What another package has put in the place of ``_live_receivers`` or
            ``_clear_dead_receivers``, by the name of the class or signal. It is called
            at each send, as by Django; the rest of a send stays fast. A patch of
            Django's class concerns every signal. Signals that can't be imported are
            left out.

    .. versionadded:: 0.1
    .. versionchanged:: 0.2
       ``patched`` and ``rows()`` are new.
    """

    installed: bool
    implementation: str
    reason: str
    known: bool
    django: str
    python: str
    swapped: tuple[str, ...]
    left_alone: dict[str, str]
    patched: dict[str, str]

    def rows(self) -> dict[str, str]:
        """Return what people read of it, by what it's about."""
        return {
            "installed": "yes" if self.installed else "no",
            "implementation": f"{self.implementation} ({self.reason})",
            "Django": f"{self.django} ({'known' if self.known else 'unknown'})",
            "Python": self.python,
            "swapped": ", ".join(self.swapped) or "nothing",
            "left alone": _list(self.left_alone),
            "patched lookup": _list(self.patched),
        }

    def __str__(self) -> str:
        rows = self.rows().items()
        return "\n".join(f"{name + ':':16}{value}" for name, value in rows)


def _list(patches: dict[str, str]) -> str:
    return ", ".join(f"{what} (by {by})" for what, by in patches.items()) or "nothing"


def install(force: bool = False) -> bool:
    """Have every signal dispatched by altdispatch; return whether that is so now.

    Where it is so already, nothing is done. A method of Django's ``Signal`` that
    somebody else has replaced is left as it is. If altdispatch doesn't know the
    dispatcher of this Django, nothing is swapped and the answer is False, unless
    ``force`` is true.

    .. versionadded:: 0.1
    """
    with _lock:
        if is_installed():
            return True
        if not (is_known() or force):
            return False
        swapped = _swapped[stock.Signal] = {}
        for name, method in _methods().items():
            original = vars(stock.Signal).get(name)
            if _is_djangos_own(original, name):
                swapped[name] = (
                    original,
                    _graft(method, original, implementations.in_use.compile),
                )
        for name, (_, method) in swapped.items():
            setattr(stock.Signal, name, method)
        _lend()
        return True


def uninstall() -> bool:
    """Give Django its methods back; return whether there was a swap to undo.

    Every receiver stays connected. What somebody else has put in the place of a
    method since ``install()`` stays too.

    .. versionadded:: 0.1
    """
    with _lock:
        if not _swapped:
            return False
        for cls, methods in _swapped.items():
            for name, (original, method) in methods.items():
                if vars(cls).get(name) is method:
                    setattr(cls, name, original)
        _swapped.clear()
        while _take_back:
            _take_back.pop()()
        for signal in _djangos_signals():
            give_back_lists(signal)
        return True


def is_installed() -> bool:
    """Return whether Django's signals are dispatched by altdispatch.

    .. versionadded:: 0.1
    """
    return stock.Signal in _swapped


def status() -> Status:
    """Return what is swapped, on which versions, and what was left alone.

    .. versionadded:: 0.1
    """
    # Slow to import, and not needed before somebody asks.
    import platform

    swapped = []
    left_alone = {}
    grafts = _swapped.get(stock.Signal, {})
    for name in _methods():
        method = vars(stock.Signal).get(name)
        if name in grafts and method is grafts[name][1]:
            swapped.append(name)
        elif not _is_djangos_own(method, name):
            left_alone[name] = name_patch(method)
    return Status(
        installed=is_installed(),
        implementation=implementations.in_use.name,
        reason=implementations.in_use.reason,
        known=is_known(),
        django=django.get_version(),
        python=platform.python_version(),
        swapped=tuple(swapped),
        left_alone=left_alone,
        patched=find_patched(find_importable_signals()) if is_installed() else {},
    )


def find_patched(signals: list[stock.Signal]) -> dict[str, str]:
    """Return what replaces the look-up of receivers, by the name of what it is for.

    That's every class of signals, and those of these signals that have a name.
    """
    patches = find_patches(signals)
    names = name_signals([owner for owner, _ in patches])
    patched = {}
    for owner, method in patches:
        is_class = issubclass(type(owner), type)
        name = dotted(owner) if is_class else names.get(id(owner))
        if name is not None:
            patched[name] = name_patch(method)
    return patched


@cache
def is_known() -> bool:
    """Return whether altdispatch knows the dispatcher of this Django."""
    source = read_source()
    return source is not None and _digest(source) in _KNOWN


def read_source() -> str | None:
    """Return the source of Django's dispatcher; None if it's installed without it."""
    try:
        return inspect.getsource(stock)
    except OSError:
        return None


def _digest(source: str) -> str:
    """Return what stays the same while only comments, docstrings, layout change."""
    code = re.sub(r'""".*?"""|#[^\n]*', "", source, flags=re.DOTALL)
    return hashlib.sha256(" ".join(code.split()).encode()).hexdigest()[:16]


def _djangos_signals() -> list[stock.Signal]:
    """Return every instance of Django's ``Signal`` that isn't one of ours.

    What has no lock was made without ``__init__()``, and has no receivers either.
    """
    return [
        signal
        for signal in find_signals()
        if not issubclass(type(signal), dispatcher.Signal)
        and "lock" in read_instance(signal)
    ]


def _methods() -> dict[str, FunctionType]:
    """Return the methods of ``Signal``, by name, those of the implementation in use."""
    return {
        name: getattr(implementations.in_use.Signal, name)
        for name, method in vars(dispatcher.Signal).items()
        if isinstance(method, FunctionType)
    }


def _lend() -> None:
    """Compile Django's own ``_live_receivers``, for those who have kept the function.

    A monitoring agent that patches the method before the swap calls it at every send.
    """
    lend = implementations.in_use.lend
    if lend is None or not is_known():
        return
    name = "_live_receivers"
    if name in _swapped[stock.Signal]:
        functions: list[Any] = [_swapped[stock.Signal][name][0]]
    else:
        # Nobody else knows where the agent has it.
        functions = gc.get_referrers(vars(stock))
    _djangos_lookups.extend(
        function
        for function in functions
        if _is_djangos_own(function, name) and function not in _djangos_lookups
    )
    for function in _djangos_lookups:
        lend(function, True)
        _take_back.append(partial(lend, function, False))


def _is_djangos_own(method: Any, name: str) -> TypeGuard[FunctionType]:
    # Whatever functools.wraps() has copied, these two tell the original.
    return (
        type(method) is FunctionType
        and method.__globals__ is vars(stock)
        and method.__code__.co_qualname == f"Signal.{name}"
    )
