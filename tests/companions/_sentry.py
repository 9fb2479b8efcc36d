"""How a project has Sentry's SDK initialized, and where it sends to."""

from collections import defaultdict
from typing import Any

import sentry_sdk
from django.apps import AppConfig
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, list[Any]] = defaultdict(list)

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            self.items[item.type].append(item.payload.json)


def initialize(**options: Any) -> Kept:
    """Initialize the SDK with options of its integration with Django."""
    kept = Kept()
    sentry_sdk.init(
        transport=kept,
        traces_sample_rate=1.0,
        integrations=[DjangoIntegration(signals_spans=True, **options)],
    )
    return kept


class Sentry(AppConfig):
    """Initializes it in the order of the apps: before altdispatch, or after it."""

    name = "tests.companions._sentry"
    label = "sentry"

    def ready(self) -> None:
        self.kept = initialize()
