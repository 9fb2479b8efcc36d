from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .swap import install


class AltdispatchConfig(AppConfig):
    """Swaps the dispatcher when the project starts."""

    name = "altdispatch"

    def ready(self) -> None:
        from . import checks  # noqa: F401

        install(force=_get_options()["FORCE"])


def _get_options() -> dict[str, bool]:
    """Return the options of the setting ``ALTDISPATCH``, or say what is wrong."""
    options = {"FORCE": False}
    given = getattr(settings, "ALTDISPATCH", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured("The setting ALTDISPATCH must be a dictionary.")
    for name, value in given.items():
        if name not in options:
            raise ImproperlyConfigured(
                f"{name!r} is not an option of the setting ALTDISPATCH. "
                f"It has: {', '.join(options)}."
            )
        if not isinstance(value, bool):
            raise ImproperlyConfigured(
                f"The option {name!r} of the setting ALTDISPATCH must be True or False."
            )
        options[name] = value
    return options
