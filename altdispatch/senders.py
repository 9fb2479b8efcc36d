"""Check senders, and look up models that are written as ``"app.Model"``."""

from __future__ import annotations

from collections.abc import Hashable

from django.apps import apps
from django.core.exceptions import AppRegistryNotReady


def check_sender(sender: object) -> None:
    """Raise TypeError or ValueError if ``sender`` can't be the sender of a signal."""
    if sender is None:
        raise TypeError("None is not a sender. For every sender, leave senders out.")
    if isinstance(sender, str):
        _check_name(sender)
    elif not isinstance(sender, Hashable):
        raise TypeError(f"{sender!r} is not a sender: it can't be hashed.")


def find_sender(sender: object) -> object:
    """Return the model if ``sender`` is a name; return any other sender unchanged.

    Raise ``LookupError`` if there is no such model, and ``AppRegistryNotReady`` before
    the models are loaded.
    """
    if not isinstance(sender, str):
        return sender
    _check_name(sender)
    if not apps.models_ready:
        raise AppRegistryNotReady(
            f"The model {sender!r} can't be looked up before all models are loaded. "
            "Do this in the ready() of an AppConfig, or give the class."
        )
    return apps.get_model(sender)


def _check_name(name: str) -> None:
    app, _, model = name.partition(".")
    if not app.isidentifier() or not model.isidentifier():
        raise ValueError(
            f"{name!r} is not a sender: a model is written as 'app.Model'."
        )
