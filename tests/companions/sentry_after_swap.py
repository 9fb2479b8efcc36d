"""Spans of signals, and errors, with ``sentry_sdk.init()`` after the swap."""

from .sentry import drive, urlpatterns  # noqa: F401

PACKAGES = ["sentry-sdk"]
SETTINGS = {"INSTALLED_APPS": ["altdispatch", "tests.companions._sentry.Sentry"]}
