from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .swap import install


class AltdispatchConfig(AppConfig):
    """Swaps the dispatcher when the project starts."""

    name = "altdispatch"

    def ready(self) -> None:
        from . import checks, lost  # noqa: F401

        lost.watch()
        install(force=get_options()["FORCE"])


def get_options() -> dict[str, Any]:
    """Return the options of the setting ``ALTDISPATCH``, or say what is wrong."""
    options: dict[str, Any] = {"FORCE": False, "TASK_DATABASES": {}}
    given = getattr(settings, "ALTDISPATCH", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured("The setting ALTDISPATCH must be a dictionary.")
    for name, value in given.items():
        if name not in options:
            raise ImproperlyConfigured(
                f"{name!r} is not an option of the setting ALTDISPATCH. "
                f"It has: {', '.join(options)}."
            )
        if name == "FORCE" and not isinstance(value, bool):
            raise ImproperlyConfigured(
                "The option 'FORCE' of the setting ALTDISPATCH must be True or False."
            )
        if name == "TASK_DATABASES" and not _is_dict_of_strings(value):
            raise ImproperlyConfigured(
                "The option 'TASK_DATABASES' of the setting ALTDISPATCH must be a "
                "dictionary from aliases of TASKS to aliases of DATABASES."
            )
        options[name] = value
    return options


def _is_dict_of_strings(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, str) for item in value.items() for each in item
    )
