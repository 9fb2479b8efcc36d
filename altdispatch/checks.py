"""What ``manage.py check`` says where altdispatch is among the apps."""

from __future__ import annotations

import sys
import sysconfig
from typing import Any

import django
from django.core.checks import CheckMessage, Error, Info, Warning, register

from . import implementations
from .listing import list_repeated
from .swap import is_installed, status
from .tasks import list_task_receivers


@register
def check_dispatcher_is_known(**kwargs: Any) -> list[CheckMessage]:
    """Warn where ``ready()`` swapped nothing."""
    if is_installed():
        return []
    return [
        Warning(
            "altdispatch has swapped nothing: it does not know the signal "
            f"dispatcher of this Django ({django.get_version()}).",
            hint=(
                "Signals are dispatched by Django, as without altdispatch. See "
                "whether a newer altdispatch supports this Django, or set "
                'ALTDISPATCH = {"FORCE": True} after running your tests with it.'
            ),
            id="altdispatch.W001",
        )
    ]


@register(deploy=True)
def check_extension_is_there(**kwargs: Any) -> list[CheckMessage]:
    """Warn where the hot paths could be compiled and aren't, by nobody's choice."""
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
            f"altdispatch dispatches in plain Python: {implementations.in_use.reason}.",
            hint=(
                "Install altdispatch again where there is a C compiler and the headers "
                "of this Python. With ALTDISPATCH_REQUIRE_SPEEDUPS=1 in the "
                "environment, the installation fails with the compiler's error. Set "
                "ALTDISPATCH_PURE_PYTHON=1 if plain Python is what you want."
            ),
            id="altdispatch.W002",
        )
    ]


@register
def check_fast_path_is_on(**kwargs: Any) -> list[CheckMessage]:
    """Tell what somebody has put in the place of the look-up of receivers."""
    return [
        Info(
            f"What {owner} sends is not dispatched as fast as it could be: {patch} "
            "looks up the receivers.",
            hint=(
                "Nothing is wrong with that: it is called each time, as by Django. If "
                "what it is for can be turned off, it is faster without."
            ),
            id="altdispatch.I003",
        )
        for owner, patch in status().slowed.items()
    ]


@register
def check_receivers_are_connected_once(**kwargs: Any) -> list[CheckMessage]:
    """Tell which receivers of an app are called more than once for a send."""
    return [
        Info(
            f"{signal} calls {receiver.receiver} more than once for each send: the "
            f"app {receiver.app!r} has connected it again, with "
            f"{receiver.dispatch_uid or 'no'} as dispatch_uid.",
            hint=(
                "Connect it once, or with the same dispatch_uid, unless it is meant "
                "to be called again."
            ),
            id="altdispatch.I004",
        )
        for signal, receiver in list_repeated()
    ]


@register
def check_tasks_are_in_the_transaction(**kwargs: Any) -> list[CheckMessage]:
    """Refuse tasks that should be in a transaction, and can't be."""
    return [
        Error(
            problem,
            hint="Sends that would queue it raise an error.",
            id="altdispatch.E006",
        )
        for receiver in list_task_receivers()
        if (problem := receiver.find_problem()) is not None
    ]
