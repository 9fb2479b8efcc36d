"""Initialise Sentry's SDK with a transport that sends nothing."""

from collections import defaultdict
from typing import Any

import sentry_sdk
from django.apps import AppConfig
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport


class RecordingTransport(Transport):
    """Record the items that would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, list[Any]] = defaultdict(list)

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            self.items[item.type].append(item.payload.json)


def initialize(**options: Any) -> RecordingTransport:
    """Initialise the SDK with options for its Django integration."""
    transport = RecordingTransport()
    sentry_sdk.init(
        transport=transport,
        traces_sample_rate=1.0,
        integrations=[DjangoIntegration(**{"signals_spans": True, **options})],
    )
    return transport


class Sentry(AppConfig):
    """Initialise the SDK before or after altdispatch, in the order of the apps."""

    name = "tests.companions._sentry"
    label = "sentry"

    def ready(self) -> None:
        self.transport = initialize()
