"""Replace the methods of Django's ``Signal`` with altdispatch's, and restore them.

The class stays the same object, as do its instances, its subclasses and every imported
name for it. One assignment replaces each method for all of them.
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

from . import asgi, dispatcher, implementations
from .implementations import graft
from .naming import find_importable_signals, name_patch, read_instance
from .patches import find_signals, name_patches
from .receivers import give_back_lists

# The dispatchers that altdispatch can replace: the digest of their source, and the
# release that has it.
_KNOWN = {
    "f11e4c3497d46d6d": "5.2",
    "b8fc4b9224a8a495": "6.0",
    "c4eaeafc7e79824d": "6.1",
}

# Cached, so that swapping again reuses the same functions.
_graft = cache(graft)

_lock = threading.Lock()
# The swapped methods, by class and name: Django's own, and the one that replaces it.
# There is one class, unless a program has reloaded Django's dispatcher.
_swapped: dict[type, dict[str, tuple[FunctionType, FunctionType]]] = {}
# Django's own _live_receivers functions, once found by _add_compiled_entries().
_djangos_lookups: list[FunctionType] = []
# Functions that remove the compiled entries of these again.
_entry_removers: list[Callable[[], None]] = []


@dataclass(frozen=True)
class Status:
    """What is swapped, as ``status()`` returns it; ``str()`` makes a table of it.

    Attributes:

        installed
            Whether altdispatch dispatches Django's signals.
        implementation
            The implementation in use: ``"c"``, the extension, or ``"python"``.
        reason
            Why this implementation is in use.
        known
            Whether altdispatch knows the dispatcher of this Django.
        django, python
            Their versions.
        swapped
            The names of the methods of ``Signal`` that are altdispatch's.
        left_alone
            The names of the methods of ``Signal`` that another package has replaced,
            each with the name of what replaces it.
        patched
            The names of the classes and signals whose ``_live_receivers`` or
            ``_clear_dead_receivers`` another package has patched, each with the name of
            the patch. altdispatch calls the patch where Django would. With a patched
            ``_live_receivers``, the rest of a send stays fast; with a patched
            ``_clear_dead_receivers``, sends run in plain Python. A patch of Django's
            class affects every signal. Signals that can't be imported are left out.

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
        """Return the rows of the table that ``status`` prints, by their labels.

        .. versionadded:: 0.2
        """
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
    """Have altdispatch dispatch every signal; return whether it does so now.

    If it does so already, do nothing. Leave a method of Django's ``Signal`` alone if
    another package has replaced it. If altdispatch doesn't know the dispatcher of this
    Django, swap nothing and return False, unless ``force`` is true.

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
        _add_compiled_entries()
        asgi.note_codes()
        return True


def uninstall() -> bool:
    """Restore Django's methods; return whether altdispatch was installed.

    Every receiver stays connected. If another package has replaced a method since
    ``install()``, its replacement stays.

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
        while _entry_removers:
            _entry_removers.pop()()
        for signal in _djangos_signals():
            give_back_lists(signal)
        return True


def is_installed() -> bool:
    """Return whether altdispatch dispatches Django's signals.

    .. versionadded:: 0.1
    """
    return stock.Signal in _swapped


def status() -> Status:
    """Return what is swapped, on which versions, and what was left alone.

    .. versionadded:: 0.1
    """
    # Imported here because it is slow to import, and rarely needed.
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
        patched=_find_patched() if is_installed() else {},
    )


def _find_patched() -> dict[str, str]:
    """Return the names of the patches of the look-up, by the class or signal."""
    patches = name_patches(find_importable_signals())
    return {owner: patch for owner, _, patch in patches}


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
    """Return a digest of the source without comments, docstrings and layout."""
    code = re.sub(r'""".*?"""|#[^\n]*', "", source, flags=re.DOTALL)
    return hashlib.sha256(" ".join(code.split()).encode()).hexdigest()[:16]


def _djangos_signals() -> list[stock.Signal]:
    """Return every instance of Django's ``Signal`` that isn't altdispatch's.

    Leave out those without a lock: they were made without ``__init__()``, and have no
    receivers.
    """
    return [
        signal
        for signal in find_signals()
        if not issubclass(type(signal), dispatcher.Signal)
        and "lock" in read_instance(signal)
    ]


def _methods() -> dict[str, FunctionType]:
    """Return the methods of the ``Signal`` of the implementation in use, by name."""
    return {
        name: getattr(implementations.in_use.Signal, name)
        for name, method in vars(dispatcher.Signal).items()
        if isinstance(method, FunctionType)
    }


def _add_compiled_entries() -> None:
    """Give Django's own ``_live_receivers`` a compiled entry.

    A monitoring agent that has patched the method before the swap has kept this
    function, and calls it at every send.
    """
    accelerate = implementations.in_use.accelerate
    if accelerate is None or not is_known():
        return
    name = "_live_receivers"
    if name in _swapped[stock.Signal]:
        functions: list[Any] = [_swapped[stock.Signal][name][0]]
    else:
        # The agent has kept it somewhere: it refers to its module's globals.
        functions = gc.get_referrers(vars(stock))
    _djangos_lookups.extend(
        function
        for function in functions
        if _is_djangos_own(function, name) and function not in _djangos_lookups
    )
    for function in _djangos_lookups:
        accelerate(function, True)
        _entry_removers.append(partial(accelerate, function, False))


def _is_djangos_own(method: Any, name: str) -> TypeGuard[FunctionType]:
    # functools.wraps() copies neither the globals nor the code.
    return (
        type(method) is FunctionType
        and method.__globals__ is vars(stock)
        and method.__code__.co_qualname == f"Signal.{name}"
    )
