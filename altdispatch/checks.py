"""System checks: what ``manage.py check`` reports if altdispatch is an app."""

from __future__ import annotations

import sys
import sysconfig
from typing import Any

import django
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.dispatch import Signal

from . import implementations
from .listing import find_repeated, find_task_problems
from .lost import find_lost
from .naming import find_importable_signals
from .swap import find_patched, is_installed, read_source


@register
def check_dispatcher_is_known(**kwargs: Any) -> list[CheckMessage]:
    """Warn if altdispatch has swapped nothing."""
    if is_installed():
        return []
    if read_source() is None:
        reason = (
            "Django is installed without its source files, by which it would know the "
            "signal dispatcher."
        )
        hint = "Install Django with its .py files"
    else:
        reason = (
            "it does not know the signal dispatcher of this Django "
            f"({django.get_version()})."
        )
        hint = "See whether a newer altdispatch supports this Django"
    return [
        Warning(
            f"altdispatch has swapped nothing: {reason}",
            hint=(
                f"Signals are dispatched by Django, as without altdispatch. {hint}, or "
                'set ALTDISPATCH = {"FORCE": True} after running your tests with it.'
            ),
            id="altdispatch.W001",
        )
    ]


@register
def check_extension_is_there(**kwargs: Any) -> list[CheckMessage]:
    """Warn if the extension could be in use and isn't, unless that was chosen."""
    can_be_built = sys.implementation.name == "cpython" and not (
        sysconfig.get_config_var("Py_GIL_DISABLED")
    )
    if (
        not can_be_built
        or implementations.in_use.name == "c"
        or implementations.is_python_chosen()
    ):
        return []
    reason = implementations.in_use.reason
    hint = "Set ALTDISPATCH_PURE_PYTHON=1 if plain Python is what you want."
    # If another interpreter of this process has it, the reason says what to do.
    if "another interpreter" not in reason:
        hint = (
            "Install altdispatch again where there is a C compiler and the headers of "
            "this Python. With ALTDISPATCH_REQUIRE_SPEEDUPS=1 in the environment, the "
            f"installation fails with the compiler's error. {hint}"
        )
    return [
        Warning(
            f"altdispatch dispatches in plain Python: {reason}.",
            hint=hint,
            id="altdispatch.W002",
        )
    ]


@register
def check_receivers_live(**kwargs: Any) -> list[CheckMessage]:
    """Warn of receivers that died before the apps were ready."""
    return [
        Warning(
            f"{lost.signal or 'A signal'} has lost {lost.receiver} ({lost.kind}): it "
            "was connected weakly"
            + (f" at {lost.file}:{lost.line}" if lost.file else "")
            + ", and nothing else refers to it. It is never called.",
            hint=(
                "Connect it with weak=False, or keep a reference to it for as long as "
                "it is to be called."
            ),
            id="altdispatch.W005",
        )
        for lost in find_lost()
        if lost.receiver is not None
    ]


@register
def check_signals(**kwargs: Any) -> list[CheckMessage]:
    """Report patched methods, receivers connected twice, and tasks that fail."""
    # Find the signals once for all reports: this takes most of the time.
    signals = find_importable_signals()
    return [
        *_report_patches(signals),
        *_report_repeated(signals),
        *_report_tasks(signals),
    ]


def _report_patches(signals: list[Signal]) -> list[CheckMessage]:
    if not is_installed():
        return []
    return [
        Info(
            f"{patch}, of the package {patch.partition('.')[0]!r}, replaces the "
            f"look-up of receivers of {owner}.",
            hint=(
                "Nothing is wrong, and there is nothing to do. The package's function "
                "is called for each send, as by Django; the rest of a send stays fast. "
                "Sentry's SDK replaces the look-up with signals_spans=False too."
            ),
            id="altdispatch.I003",
        )
        for owner, patch in find_patched(signals).items()
    ]


def _report_repeated(signals: list[Signal]) -> list[CheckMessage]:
    return [
        Info(
            f"{signal} calls {receiver.receiver} more than once for each send: the "
            f"app {receiver.app!r} has connected it again (dispatch_uid: "
            f"{receiver.dispatch_uid or 'none'}).",
            hint=(
                "Connect it once, or with the same dispatch_uid, unless it is meant "
                "to be called again."
            ),
            id="altdispatch.I004",
        )
        for signal, receiver in find_repeated(signals)
    ]


def _report_tasks(signals: list[Signal]) -> list[CheckMessage]:
    return [
        Error(
            f"{signal}, sent by {sender or 'anything'}: {problem}",
            hint="Sends that would queue it raise an error.",
            id="altdispatch.E006",
        )
        for signal, sender, problem in find_task_problems(signals)
    ]
