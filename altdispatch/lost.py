"""Find lost receivers: those that died before the apps were ready.

They were connected weakly, and nothing else referred to them: a lambda, a local
function, a partial, a method of a temporary object. As in Django, no error is raised.
``manage.py check`` and ``manage.py altdispatch signals --lost`` report them.

While the apps are loaded, ``connect()`` calls ``note()`` for each weak receiver. A note
has the receiver's code, or the name of its class. So it doesn't keep the receiver
alive, and the receiver can't notice it.
"""

from __future__ import annotations

import functools
import os
import sys
import weakref
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

import django
from django.apps import apps
from django.dispatch import Signal

from . import dispatcher
from .naming import (
    dotted,
    find_importable_signals,
    is_on_commit,
    name_signals,
    read_instance,
)


@dataclass(frozen=True)
class LostReceiver:
    """A receiver that was connected weakly, and died before the apps were ready.

    Attributes:

        receiver
            Its name; None if it was connected before the swap.
        kind
            Its kind, such as ``"a lambda"``; None if it was connected before the swap.
        signal
            The name of the signal; None if that can't be imported.
        file, line
            Where it was connected; None if that isn't known.

    .. versionadded:: 0.2
    """

    receiver: str | None
    kind: str | None
    signal: str | None
    file: str | None
    line: int | None


# The code that connected a receiver, and the offset of its instruction.
_Place = tuple[CodeType, int]
# A note of a receiver: its signal, its code or name, its kind, and where.
_Note = tuple[weakref.ref[Signal], CodeType | str | None, str | None, _Place | None]
_KINDS = {
    FunctionType: "a function",
    MethodType: "a bound method",
    functools.partial: "a partial",
}
# The types that connect() makes. A strong receiver may be of a subclass of them.
_REFERENCES = (weakref.ReferenceType, weakref.WeakMethod)
# Code in these folders is skipped when looking for the line that called connect().
_SKIPPED_FOLDERS = tuple(
    os.path.join(os.path.dirname(path), "") for path in (django.__file__, __file__)
)

# By the id of the weak reference. After a disconnect, another object may get that id:
# it has a note of its own then, or isn't a weak reference.
_notes: dict[int, _Note] = {}
_lost: list[_Note] = []


def watch() -> None:
    """Have ``connect()`` call ``note()`` until the apps are ready."""
    if not apps.ready:
        dispatcher.watcher = sys.modules[__name__]


def note(signal: Signal, receiver: Any, reference: Any) -> None:
    """Note a receiver that ``connect()`` is about to connect by ``reference``.

    Keep this short, as it delays the start: ``find_lost()`` does the rest.
    """
    if apps.ready:
        _stop()
        return
    name: CodeType | str
    if type(receiver) is FunctionType:
        if receiver.__globals__.get(receiver.__name__) is receiver:
            # Like most receivers, it's kept alive by its module.
            return
        name, kind = receiver.__code__, "a function"
    else:
        name, kind = _name_object(receiver)
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED_FOLDERS):
        # Django has deferred this connect() until a model was loaded, so the line that
        # called it isn't on the stack.
        is_late = frame.f_code.co_name == "do_pending_operations"
        frame = None if is_late else frame.f_back
    # Not the line number: it takes longer to find.
    place = None if frame is None else (frame.f_code, frame.f_lasti)
    _notes[id(reference)] = weakref.ref(signal), name, kind, place


def _name_object(receiver: Any) -> tuple[CodeType | str, str]:
    """Return the code or name of a receiver that isn't a function, and its kind."""
    if is_on_commit(receiver):
        receiver = receiver.__self__
    kind = _KINDS.get(type(receiver), "an object")
    function = receiver
    if kind == "a bound method":
        function = receiver.__func__
    elif kind == "a partial":
        function = receiver.func
    if type(function) is FunctionType:
        return function.__code__, kind
    return dotted(function), kind


def note_dead(signal: Signal) -> None:
    """Note which receivers of a signal are dead, before their entries are dropped."""
    entries = read_instance(signal).get("receivers")
    for entry in list(entries) if isinstance(entries, list) else ():
        if type(entry) is not tuple or len(entry) < 2:
            continue
        reference = entry[1]
        if type(reference) in _REFERENCES and reference() is None:
            unknown = weakref.ref(signal), None, None, None
            _lost.append(_notes.pop(id(reference), unknown))


def find_lost() -> list[LostReceiver]:
    """Return the receivers that died before the apps were ready.

    It describes those that were connected after the swap, for example by the
    ``ready()`` of an app after altdispatch. Of earlier ones it only finds those whose
    entry the signal still has.

    Nothing tells altdispatch when the apps are ready. It looks for the dead receivers
    when this function is called, or the first ``connect()`` after that time, whichever
    comes first. So a receiver that a program lets go before that is reported, too.

    .. versionadded:: 0.2
    """
    if dispatcher.watcher is not None:
        _stop()
    signals = [reference() for reference, *_ in _lost]
    names = name_signals([signal for signal in signals if signal is not None])
    return [
        _describe(names.get(id(signal)), note)
        for signal, note in zip(signals, _lost, strict=True)
    ]


def _stop() -> None:
    """Note the dead receivers that signals still have, then stop noting."""
    dispatcher.watcher = None
    noted = [reference() for reference, *_ in _notes.values()]
    signals = [*noted, *find_importable_signals()]
    found = {id(signal): signal for signal in signals if signal is not None}
    for signal in found.values():
        note_dead(signal)
    _notes.clear()


def _describe(signal: str | None, note: _Note) -> LostReceiver:
    _, name, kind, place = note
    if isinstance(name, CodeType):
        if kind == "a function" and name.co_name == "<lambda>":
            kind = "a lambda"
        elif kind == "a function" and "<locals>" in name.co_qualname:
            kind = "a local function"
        name = name.co_qualname
    if place is None:
        return LostReceiver(name, kind, signal, None, None)
    caller, offset = place
    # Tools that shrink programs may have removed the lines.
    lines = (line for start, end, line in caller.co_lines() if start <= offset < end)
    line = next(lines, None) or caller.co_firstlineno
    return LostReceiver(name, kind, signal, caller.co_filename, line)
