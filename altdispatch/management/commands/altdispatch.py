from typing import Any

from django.core.management.base import BaseCommand

from altdispatch import status


class Command(BaseCommand):
    help = "Tells what altdispatch has swapped in this project, and what not."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> str:
        return str(status())
