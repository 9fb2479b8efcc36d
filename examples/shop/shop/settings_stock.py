"""The same shop without altdispatch, for the demo to compare with."""

from .settings import *  # noqa: F403

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "altdispatch"]  # noqa: F405
