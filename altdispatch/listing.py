"""What signals there are in this process, and who is connected to them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, MethodType
from typing import Any

import django.dispatch.dispatcher
from django.apps import AppConfig, apps
from django.db.models.base import ModelBase
from django.db.models.options import Options
from django.dispatch import Signal

from .hybrid import find_asynchronous
from .naming import (
    dotted,
    find_function,
    find_importable_signals,
    module_of,
    name_signals,
    stored,
)
from .patches import find_signals
from .releases import ENTRY_LENGTH, WATCHES_SENDERS
from .tasks import task_receiver_of

# Any, as what is used of it is private.
stock: Any = django.dispatch.dispatcher


@dataclass(frozen=True)
class Connection:
    """A receiver of a signal, and how it is connected.

    Attributes:

        receiver
            Its name, with that of its module.
        file, line
            Where it is defined; None if that isn't known.
        app
            The label of the app that it's in, if any.
        sender
            The name of what it is connected for: a model as ``"app.Model"``; None if
            that's everything.
        weak
            Whether the signal lets it die.
        asynchronous
            Whether the signal awaits it.
        dispatch_uid
            That of the connection, as ``repr()`` gives it; None if it has none.
        task
            When it's queued, if it's a task: ``"transaction"``, ``"commit"`` or
            ``"now"``. The receiver is the task's function then.
        hybrid
            Whether it is a hybrid receiver: ``asend()`` awaits its asynchronous side.

    .. versionadded:: 0.2
    """

    receiver: str
    file: str | None
    line: int | None
    app: str | None
    sender: str | None
    weak: bool
    asynchronous: bool
    dispatch_uid: str | None
    task: str | None = None
    hybrid: bool = False


@dataclass(frozen=True)
class ListedSignal:
    """A signal, and what is connected to it.

    Attributes:

        name
            The dotted name that the signal can be imported by, or None.
        type
            The name of its class.
        connections
            Its receivers that are alive, in the order in which they are called.

    .. versionadded:: 0.2
    """

    name: str | None
    type: str
    connections: list[Connection]


def list_signals() -> list[ListedSignal]:
    """Return every signal of this process, sorted by name, those without one last.

    .. versionadded:: 0.2
    """
    # Signals refer to themselves, and wait for this to go.
    gc.collect()
    signals = find_signals()
    names = name_signals(signals)
    senders = _senders(signals)
    listed = [
        ListedSignal(
            names.get(id(signal)),
            dotted(type(signal)),
            [_describe(*living, senders) for living in _living(signal)],
        )
        for signal in signals
    ]
    return sorted(listed, key=lambda one: (not one.name, one.name or one.type))


def list_repeated() -> list[tuple[str, Connection]]:
    """Return the receivers that one send calls twice, each with its signal's name.

    They were connected with another ``dispatch_uid`` each time. Receivers outside of
    apps, and signals that can't be imported, are left out.

    .. versionadded:: 0.2
    """
    return find_repeated(find_importable_signals())


def find_repeated(signals: Iterable[Signal]) -> list[tuple[str, Connection]]:
    """Return what ``list_repeated()`` does, of these signals."""
    found = []
    for signal in signals:
        seen = set()
        for entry, receiver in _living(signal):
            key = _identity(receiver), entry[0][1]
            if key in seen:
                found.append((signal, entry, receiver))
            seen.add(key)
    if not found:
        return []
    repeated = [signal for signal, _, _ in found]
    names = name_signals(repeated)
    senders = _senders(repeated)
    return [
        (names[id(signal)], connection)
        for signal, entry, receiver in found
        if id(signal) in names
        and (connection := _describe(entry, receiver, senders)).app
    ]


def _entries(signal: Signal) -> list[Any]:
    """Return the entries of a signal that are as ``connect()`` makes them."""
    try:
        entries = [*signal.receivers]
    except Exception:
        # Its __init__() wasn't called, or its class computes them.
        return []
    return [
        entry
        for entry in entries
        if type(entry) is tuple
        and len(entry) == ENTRY_LENGTH
        and type(entry[0]) is tuple
        and len(entry[0]) == 2
        and _is_id(entry[0][1])
    ]


def _is_id(key: Any) -> bool:
    """Return whether it's what Django knows a receiver or sender by."""
    return type(key) is int or (
        type(key) is tuple and all(type(each) is int for each in key)
    )


def _identity(receiver: Any) -> tuple[int, ...]:
    """Return what is the same each time for a bound method, and any other object."""
    if type(receiver) is MethodType:
        return id(receiver.__self__), id(receiver.__func__)
    return (id(receiver),)


def find_task_problems(signals: Iterable[Signal]) -> list[tuple[str, str | None, str]]:
    """Return why tasks can't be queued, after the names of signal and sender."""
    found = [
        (signal, entry, problem)
        for signal in signals
        for entry, receiver in _living(signal)
        if (queued := task_receiver_of(receiver)) is not None
        and (problem := queued.find_problem()) is not None
    ]
    if not found:
        return []
    names = name_signals([signal for signal, _, _ in found])
    senders = _senders([signal for signal, _, _ in found])
    return [
        (
            names.get(id(signal), dotted(type(signal))),
            _name_of_sender(entry[0][1], senders),
            problem,
        )
        for signal, entry, problem in found
    ]


def _living(signal: Signal) -> Iterator[tuple[Any, Any]]:
    """Give each entry of a signal whose receiver is alive, with that."""
    for entry in _entries(signal):
        receiver: Any = entry[1]
        if issubclass(type(receiver), weakref.ReferenceType):
            receiver = receiver()
        if receiver is not None:
            yield entry, receiver


def _describe(entry: Any, receiver: Any, senders: dict[Any, Any]) -> Connection:
    first, sender_key = entry[0]
    queued = task_receiver_of(receiver)
    function = find_function(queued.task.func if queued else receiver)
    app = apps.get_containing_app_config(module_of(function))
    code = stored(function, "__code__")
    is_python = type(code) is CodeType
    return Connection(
        receiver=dotted(function),
        file=code.co_filename if is_python else None,
        line=code.co_firstlineno if is_python else None,
        app=app.label if app else None,
        sender=_name_of_sender(sender_key, senders),
        weak=entry[1] is not receiver,
        asynchronous=entry[-1] is True,
        dispatch_uid=None if _is_key_of(first, receiver) else _represent(first),
        task=queued.when if queued else None,
        hybrid=find_asynchronous(receiver) is not None,
    )


def _is_key_of(key: Any, receiver: Any) -> bool:
    """Return whether ``connect()`` made the key of the receiver, without a uid."""
    if not _is_id(key):
        return False
    if key in (id(receiver), _identity(receiver)):
        return True
    try:
        # It asks a proxy of a method for __func__, as it did when it made the key.
        return bool(key == stock._make_id(receiver))
    except Exception:
        return False


def _represent(dispatch_uid: Any) -> str:
    try:
        return repr(dispatch_uid)
    except Exception:
        return f"a {dotted(type(dispatch_uid))}"


def _senders(signals: list[Signal]) -> dict[Any, Any]:
    """Return what signals are connected for, by what entries have of it.

    Before Django 6.0 that's an id, by which it is looked for among all classes and
    apps: they live as long as their receivers.
    """
    entries = [entry for signal in signals for entry in _entries(signal)]
    if WATCHES_SENDERS:
        return {key: ref() for (_, key), _, ref, _ in entries if ref is not None}
    wanted = {key for (_, key), *_ in entries}
    return {
        id(thing): thing
        for thing in gc.get_objects()
        if id(thing) in wanted and issubclass(type(thing), (type, AppConfig))
    }


def _name_of_sender(key: Any, senders: dict[Any, Any]) -> str | None:
    if key == stock.NONE_ID:
        return None
    sender = senders.get(key)
    if issubclass(type(sender), ModelBase):
        options = stored(sender, "_meta")
        # Model itself has none.
        return options.label if type(options) is Options else dotted(sender)
    if issubclass(type(sender), AppConfig):
        name = stored(sender, "name")
        return name if type(name) is str else f"a {dotted(type(sender))}"
    if issubclass(type(sender), type):
        return dotted(sender)
    # Its repr() may be long, or query a database.
    return "an object" if sender is None else f"a {dotted(type(sender))}"
