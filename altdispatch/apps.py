from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from . import asgi
from .swap import install


class AltdispatchConfig(AppConfig):
    """Swaps the dispatcher when the project starts."""

    name = "altdispatch"

    def ready(self) -> None:
        from . import checks, lost  # noqa: F401

        lost.watch()
        options = get_options()
        asgi.is_on = options["DEFER_REQUEST_THREADS"]
        install(force=options["FORCE"])
        if options["MONITORING"]:
            # Slow to import, and rarely wanted.
            from . import monitoring

            monitoring.enable()


def get_options() -> dict[str, Any]:
    """Return the options of the setting ``ALTDISPATCH``, or say what is wrong."""
    options: dict[str, Any] = {
        "DEFER_REQUEST_THREADS": True,
        "FORCE": False,
        "MONITORING": False,
        "TASK_DATABASES": {},
    }
    given = getattr(settings, "ALTDISPATCH", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured("The setting ALTDISPATCH must be a dictionary.")
    for name, value in given.items():
        if name not in options:
            raise ImproperlyConfigured(
                f"{name!r} is not an option of the setting ALTDISPATCH. "
                f"It has: {', '.join(options)}."
            )
        if name == "TASK_DATABASES":
            _check_task_databases(value)
        elif not isinstance(value, bool):
            raise ImproperlyConfigured(
                f"The option {name!r} of the setting ALTDISPATCH must be True or False."
            )
        options[name] = value
    return options


def _check_task_databases(value: object) -> None:
    if not isinstance(value, dict):
        raise ImproperlyConfigured(
            "The option 'TASK_DATABASES' of the setting ALTDISPATCH must be a "
            "dictionary from aliases of TASKS to aliases of DATABASES."
        )
    # Before Django 6.0, there is no such setting unless the project has it.
    tasks = getattr(settings, "TASKS", ["default"])
    for setting, known, given in (
        ("TASKS", [*tasks], value.keys()),
        ("DATABASES", [*connections], value.values()),
    ):
        for alias in given:
            if alias not in known:
                raise ImproperlyConfigured(
                    "The option 'TASK_DATABASES' of the setting ALTDISPATCH names "
                    f"{alias!r}, which is not in {setting}. It has: {known}."
                )
