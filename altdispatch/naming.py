"""What signals, receivers and senders are called, for people."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Any

from django.dispatch import Signal


def dotted(what: Any) -> str:
    """Return the name of a class or function, with that of its module."""
    if not hasattr(what, "__qualname__"):
        # It's an object of that class.
        what = type(what)
    return f"{module_of(what)}.{what.__qualname__}"


def module_of(what: Any) -> str:
    """Return the name of the module that a class or function is in."""
    # What is written in C may have none.
    return getattr(what, "__module__", None) or "builtins"


def name_signals(signals: Collection[Signal]) -> dict[int, str]:
    """Return the names under which signals can be imported, by their ids."""
    wanted = {id(signal) for signal in signals}
    if not wanted:
        # Usually, when it's asked for what is unusual: modules take their time.
        return {}
    found: dict[int, list[tuple[ModuleType, str]]] = defaultdict(list)
    modules = [module for module in sys.modules.values() if type(module) is ModuleType]
    for module in modules:
        for name, value in _variables(module):
            if id(value) in wanted:
                found[id(value)].append((module, name))
    return {signal: _best_name(places) for signal, places in found.items()}


def _variables(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Return those of a module, and of the classes that are written in it."""
    for name, value in [*vars(module).items()]:
        yield name, value
        if issubclass(type(value), type) and value.__module__ == module.__name__:
            for attribute, inner in [*vars(value).items()]:
                yield f"{name}.{attribute}", inner


def _best_name(places: list[tuple[ModuleType, str]]) -> str:
    """Return the name in the module that has made it, as far as that can be told."""

    def rank(place: tuple[ModuleType, str]) -> tuple[bool, int, str]:
        module, name = place
        return name in _imported(module), module.__name__.count("."), module.__name__

    module, name = min(places, key=rank)
    return f"{module.__name__}.{name}"


@functools.cache
def _imported(module: ModuleType) -> set[str]:
    """Return the names that a module has taken from others."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        # It isn't written in Python, or not in a file.
        return set()
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
