"""The names of signals, receivers and senders, read without running a program's code.

Modules, classes and connections hold anything: lazy objects and proxies, which must
stay asleep, and objects whose attributes raise. ``getattr()``, ``hasattr()``,
``vars()`` and ``isinstance()`` run code of an object's class, so they aren't used on
such objects here.
"""

from __future__ import annotations

import ast
import functools
import linecache
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, TypeGuard

from django.dispatch import Signal

# What a program can't override: it's what these types themselves do.
_read_class: Callable[[type], Mapping[str, Any] | None] = vars(type)["__dict__"].__get__
_read_mro: Callable[[type], tuple[type, ...] | None] = vars(type)["__mro__"].__get__
_read_module: Callable[[ModuleType], dict[str, Any] | None]
_read_module = vars(ModuleType)["__dict__"].__get__
_STANDARD_LIBRARY = os.path.dirname(os.__file__)
# The attribute of functions whose method tasks.on_commit() makes of a receiver.
ON_COMMIT = "_altdispatch_on_commit"
_WRITTEN_IN_C = (GetSetDescriptorType, MemberDescriptorType)


def read_class(cls: type) -> Mapping[str, Any]:
    """Return what a class defines itself: nothing if Python has cleared it."""
    return _read_class(cls) or {}


def read_mro(cls: type) -> tuple[type, ...]:
    """Return a class and its bases, in the order in which attributes are found."""
    return _read_mro(cls) or ()


def dotted(what: Any) -> str:
    """Return the name, with its module, of a function, a class or an object's class."""
    if type(what) is MethodType:
        what = what.__func__
    name = stored(what, "__qualname__")
    if type(name) is not str:
        what = type(what)
        name = stored(what, "__qualname__")
    return f"{module_of(what)}.{name}"


def module_of(what: Any) -> str:
    """Return the name of the module that a class or function is defined in."""
    name = stored(what, "__module__")
    # Classes and functions that are written in C may have none.
    return name if type(name) is str else "builtins"


def stored(what: Any, name: str) -> Any:
    """Return an attribute that an object has without computing it, or None."""
    is_class = issubclass(type(what), type)
    found = find_in_class(type if is_class else type(what), name)
    if type(found) in _WRITTEN_IN_C:
        try:
            return found.__get__(what, type(what))
        except (AttributeError, ValueError):
            # A slot that isn't set, or a proxy in C without an object. Other errors are
            # those of signal handlers.
            return None
    own = read_class(what) if is_class else read_instance(what)
    if name in own:
        return own[name]
    return found if type(found) is str else None


def is_on_commit(receiver: Any) -> TypeGuard[MethodType]:
    """Return whether ``on_commit()`` has made it; its ``__self__`` is what it calls."""
    return (
        type(receiver) is MethodType
        and type(receiver.__func__) is FunctionType
        and dict.get(vars(receiver.__func__), ON_COMMIT) is True
    )


def unwrap(receiver: Any) -> Any:
    """Return the function, class or object that a receiver was made of.

    Decorators, partials, bound methods and ``on_commit()`` are looked through.
    """
    seen: set[int] = set()
    while id(receiver) not in seen:
        seen.add(id(receiver))
        wrapped = stored(receiver, "__wrapped__")
        if wrapped is not None:
            receiver = wrapped
        elif is_on_commit(receiver):
            receiver = receiver.__self__
        elif type(receiver) is MethodType:
            receiver = receiver.__func__
        elif issubclass(type(receiver), functools.partial):
            receiver = vars(functools.partial)["func"].__get__(receiver)
    return receiver


def find_function(receiver: Any) -> Any:
    """Return the function that a receiver was made of.

    If there is none, return the class of the receiver.
    """
    target = unwrap(receiver)
    if type(stored(target, "__qualname__")) is str:
        return target
    # An object that can be called.
    call = unwrap(find_in_class(type(target), "__call__"))
    return call if type(stored(call, "__qualname__")) is str else type(target)


def find_in_class(cls: type, name: str) -> Any:
    """Return what a class or one of its bases defines under a name, or None."""
    for base in read_mro(cls):
        variables = read_class(base)
        if name in variables:
            return variables[name]
    return None


def read_instance(what: Any) -> Mapping[str, Any]:
    """Return the attributes in an object's dictionary, if it has one."""
    found = find_in_class(type(what), "__dict__")
    if type(found) is GetSetDescriptorType:
        own = found.__get__(what, type(what))
        if type(own) is dict:
            return own
    return {}


def find_subclasses(cls: type) -> list[type]:
    """Return a class, its subclasses, and theirs."""
    found = {id(cls): cls}
    to_do = [cls]
    while to_do:
        subclasses: list[type] = type.__subclasses__(to_do.pop())
        for subclass in subclasses:
            if id(subclass) not in found:
                found[id(subclass)] = subclass
                to_do.append(subclass)
    return [*found.values()]


def find_importable_signals() -> list[Signal]:
    """Return the signals that are variables of modules, or of the classes in these.

    Unlike ``find_signals()`` it doesn't walk the heap: it's for ``manage.py check``.
    """
    # By id: a metaclass may have a __hash__ and an __eq__ of its own.
    signals = {id(cls) for cls in find_subclasses(Signal)}
    metaclasses = {id(cls) for cls in find_subclasses(type)}
    wanted = signals | metaclasses
    found = {
        id(value): value
        for _, variables in _modules()
        for value in list(variables.values())
        if id(type(value)) in wanted
    }
    in_classes = [
        value
        for cls in found.values()
        if id(type(cls)) in metaclasses
        for value in list(read_class(cls).values())
        if id(type(value)) in signals
    ]
    found |= {id(signal): signal for signal in in_classes}
    return [each for each in found.values() if id(type(each)) in signals]


def name_patch(patch: Any) -> str:
    """Return where a replacement of a method is written.

    Its own name may be a copy of the original's, as ``functools.wraps()`` makes it.
    """
    while type(patch) is functools.partial or type(patch) is MethodType:
        patch = patch.__func__ if type(patch) is MethodType else patch.func
    # On PyPy, what is built in is a function too.
    if type(patch) is FunctionType and type(patch.__code__) is CodeType:
        module = patch.__globals__.get("__name__", "builtins")
        return f"{module}.{patch.__code__.co_qualname}"
    # The attributes of an object may be the original's too.
    kind = type(patch)
    return dotted(patch if module_of(kind) == "builtins" else kind)


def name_signals(signals: Collection[Signal]) -> dict[int, str]:
    """Return the names under which signals can be imported, by their ids."""
    wanted = {id(signal) for signal in signals}
    if not wanted:
        # Usually, when it's asked for what is unusual: modules take their time.
        return {}
    found: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for module, prefix, variables in _namespaces():
        for name, value in list(variables.items()):
            if id(value) in wanted and type(name) is str:
                found[id(value)].append((module, prefix + name))
    imported = functools.cache(_imported)

    def best(places: list[tuple[str, str]]) -> str:
        """Return the place in the module that seems to define it."""
        _, _, module, name = min(
            (name in imported(module), module.count("."), module, name)
            for module, name in places
        )
        return f"{module}.{name}"

    return {signal: best(places) for signal, places in found.items()}


def _modules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the name and the variables of each module that may have signals."""
    for name, module in sys.modules.copy().items():
        if type(name) is str and issubclass(type(module), ModuleType):
            variables = _read_module(module)
            # None of a module that isn't initialised, or has been cleared.
            if variables is not None and not _is_standard(name, variables):
                yield name, variables


def _is_standard(name: str, variables: dict[str, Any]) -> bool:
    """Return whether a module is one of Python's own: half of all, without signals.

    Programs have modules with such names too.
    """
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    file = variables.get("__file__")
    return type(file) is str and file.startswith(_STANDARD_LIBRARY)


def _namespaces() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Give the variables of each module, and of each class that is written in it.

    Before them comes the module's name, and what goes before the variables' own.
    """
    for module, variables in _modules():
        yield module, "", variables
        for name, value in list(variables.items()):
            if issubclass(type(value), type) and module_of(value) == module:
                yield module, f"{name}.", read_class(value)


def _imported(name: str) -> set[str]:
    """Return the names that a module has taken from others."""
    module: Any = sys.modules.get(name)
    if not issubclass(type(module), ModuleType):
        # It has gone meanwhile.
        return set()
    variables = _read_module(module) or {}
    file = variables.get("__file__")
    if type(file) is not str:
        return set()
    try:
        # From the file: the module's loader would be code of the program's.
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # It isn't written in Python, or in too deep an expression.
        return set()
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
