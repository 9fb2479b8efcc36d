import os
from pathlib import Path

from django.apps import AppConfig
from django.conf import settings


class DeliveryConfig(AppConfig):
    name = "tests.delivery"

    def ready(self):
        from . import tasks  # noqa: F401

        # Only processes that are ready are killed: killing earlier would prove nothing.
        Path(settings.DELIVERY_FOLDER, f"ready-{os.getpid()}").touch()
