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
from .patches import name_patches
from .swap import is_installed, read_source


@register
def check_dispatcher_is_known(**kwargs: Any) -> list[CheckMessage]:
    """Warn if altdispatch has swapped nothing."""
    if is_installed():
        return []
    if read_source() is None:
        reason = (
            "Django's source files are missing, and altdispatch recognises the "
            "dispatcher by its source."
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
    return [
        Warning(
            "altdispatch runs in plain Python, so sends are hardly faster than "
            f"Django's: {implementations.in_use.reason}.",
            hint="If plain Python is what you want, set ALTDISPATCH_PURE_PYTHON=1.",
            id="altdispatch.W002",
        )
    ]


@register
def check_receivers_live(**kwargs: Any) -> list[CheckMessage]:
    """Warn of receivers that died before the apps were ready."""
    return [
        Warning(
            f"{lost.signal or 'A signal'} lost the receiver {lost.receiver} "
            f"({lost.kind}): it was connected weakly"
            + (f" at {lost.file}:{lost.line}" if lost.file else "")
            + " and died because nothing else referred to it. It is never called.",
            hint=(
                "Connect it with weak=False, or keep a reference to it for as long as "
                "it should be called."
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


_PATCH_HINTS = {
    "_live_receivers": (
        "Nothing is wrong, and you need not do anything. altdispatch calls the patch "
        "for each send for which Django would; the rest of a send stays fast. Sentry's "
        "SDK patches it even with signals_spans=False."
    ),
    "_clear_dead_receivers": (
        "altdispatch calls the patch where Django would, but the sends concerned run "
        "in plain Python, so they are hardly faster than Django's."
    ),
}


def _report_patches(signals: list[Signal]) -> list[CheckMessage]:
    if not is_installed():
        return []
    return [
        Info(
            f"The package {patch.partition('.')[0]!r} has patched {owner}.{method} "
            f"({patch}).",
            hint=_PATCH_HINTS[method],
            id="altdispatch.I003",
        )
        for owner, method, patch in name_patches(signals)
    ]


def _report_repeated(signals: list[Signal]) -> list[CheckMessage]:
    return [
        Info(
            f"{signal} calls {receiver.receiver} more than once per send: it is "
            "connected again "
            + (
                f"with dispatch_uid {receiver.dispatch_uid}."
                if receiver.dispatch_uid
                else "without a dispatch_uid."
            ),
            hint=(
                "Connect it once, or pass the same dispatch_uid, unless you want it "
                "called twice."
            ),
            id="altdispatch.I004",
        )
        for signal, receiver in find_repeated(signals)
    ]


def _report_tasks(signals: list[Signal]) -> list[CheckMessage]:
    return [
        Error(
            f"A task for {signal} from {sender or 'any sender'} can't be queued: "
            f"{problem}",
            hint=(
                "Until this is fixed, each send that would queue it raises "
                "ImproperlyConfigured."
            ),
            id="altdispatch.E006",
        )
        for signal, sender, problem in find_task_problems(signals)
    ]
