"""What signals there are in this process, and who is connected to them."""

from __future__ import annotations

import functools
import gc
import inspect
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import django.dispatch.dispatcher
from django.apps import AppConfig, apps
from django.db.models.base import Model, ModelBase
from django.dispatch import Signal

from .naming import dotted, module_of, name_signals
from .patches import find_signals
from .releases import WATCHES_SENDERS
from .tasks import task_receiver_of

# Any, as what is used of it is private.
stock: Any = django.dispatch.dispatcher


@dataclass(frozen=True)
class Connection:
    """A receiver of a signal, and how it's connected.

    Attributes:

        receiver
            Its name, with that of its module.
        file, line
            Where it is written; None if that can't be told.
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


@dataclass(frozen=True)
class ListedSignal:
    """A signal, and what is connected to it.

    Attributes:

        name
            That under which it can be imported, if there is one: with its module.
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
    """Return what is called more than once for a send, after the name of the signal.

    It was connected with another ``dispatch_uid`` each time. Of receivers that are in
    no app, and of signals that can't be imported, nothing is told.

    .. versionadded:: 0.2
    """
    found = []
    for signal in find_signals():
        seen = set()
        for entry, receiver in _living(signal):
            key = stock._make_id(receiver), entry[0][1]
            if key in seen:
                found.append((signal, entry, receiver))
            seen.add(key)
    signals = [signal for signal, _, _ in found]
    names = name_signals(signals)
    senders = _senders(signals)
    return [
        (names[id(signal)], connection)
        for signal, entry, receiver in found
        if id(signal) in names
        and (connection := _describe(entry, receiver, senders)).app
    ]


def _living(signal: Signal) -> Iterator[tuple[Any, Any]]:
    """Give each entry of a signal whose receiver is alive, with that."""
    for entry in [*signal.receivers]:
        receiver: Any = entry[1]
        if isinstance(receiver, weakref.ReferenceType):
            receiver = receiver()
        if receiver is not None:
            yield entry, receiver


def _describe(entry: Any, receiver: Any, senders: dict[Any, Any]) -> Connection:
    first, sender_key = entry[0]
    queued = task_receiver_of(receiver)
    function = _function(queued.task.func if queued else receiver)
    app = apps.get_containing_app_config(module_of(function))
    code = getattr(function, "__code__", None)
    return Connection(
        receiver=dotted(function),
        file=code and code.co_filename,
        line=code and code.co_firstlineno,
        app=app.label if app else None,
        sender=_name_of_sender(sender_key, senders),
        weak=entry[1] is not receiver,
        asynchronous=entry[-1],
        dispatch_uid=None if first == stock._make_id(receiver) else repr(first),
        task=queued.when if queued else None,
    )


def _function(receiver: Any) -> Any:
    """Return what is written somewhere, of what may have been made of it."""
    while True:
        receiver = inspect.unwrap(receiver)
        if isinstance(receiver, functools.partial):
            receiver = receiver.func
        elif hasattr(receiver, "__qualname__"):
            return receiver
        else:
            # An object that can be called.
            receiver = type(receiver).__call__


def _senders(signals: list[Signal]) -> dict[Any, Any]:
    """Return what signals are connected for, by what entries have of it.

    Before Django 6.0 that's an id, by which it is looked for among all classes and
    apps: they live as long as their receivers.
    """
    entries = [entry for signal in signals for entry in signal.receivers]
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
    if isinstance(sender, ModelBase):
        return cast(type[Model], sender)._meta.label
    if isinstance(sender, AppConfig):
        return sender.name
    if isinstance(sender, type):
        return dotted(sender)
    # Its repr() may be long, or query a database.
    return "an object" if sender is None else f"a {dotted(type(sender))}"
