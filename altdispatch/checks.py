from __future__ import annotations

from typing import Any

import django
from django.core.checks import CheckMessage, Warning, register

from .swap import is_installed


@register
def check_dispatcher_is_known(**kwargs: Any) -> list[CheckMessage]:
    """Warn where ``altdispatch`` is an app and its ``ready()`` swapped nothing."""
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
