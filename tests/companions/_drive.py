"""Run one companion in this process, and print what it observed.

python -m tests.companions._drive NAME [--swapped [--monitoring]]
"""

import argparse
import contextlib
import gc
import json
import os
import re
import tempfile
from importlib import import_module
from typing import Any

import django
from django.apps import apps
from django.core.management import call_command
from django.db import connection

import altdispatch
from altdispatch import monitoring

from . import _settings
from ._companion import Companion, names, read

#: Identifiers, timestamps and addresses, which differ between runs.
MADE_UP = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?"
    r"|0x[0-9a-f]+"
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=names())
    parser.add_argument("--swapped", action="store_true")
    parser.add_argument("--monitoring", action="store_true")
    options = parser.parse_args()
    if options.monitoring:
        monitoring.enable()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        seen = drive(read(options.name), options.swapped)
    status = altdispatch.status()
    assert status.installed == options.swapped
    dispatcher = status.implementation if status.installed else "stock"
    counted = any(signal.receivers for signal in monitoring.snapshot().signals)
    assert counted == options.monitoring
    output = json.dumps({"dispatcher": dispatcher, "seen": seen}, indent=1)
    print(MADE_UP.sub("made up", output))


def drive(companion: Companion, swapped: bool) -> Any:
    """Run the companion in a new project in this folder; return what it observed."""
    module = f"{__package__}.{companion.name}"
    add_settings({"ROOT_URLCONF": module, **companion.settings})
    if not swapped:
        _settings.INSTALLED_APPS.remove("altdispatch")
    os.environ["DJANGO_SETTINGS_MODULE"] = _settings.__name__
    django.setup()
    call_command("migrate", verbosity=0)
    # Drop the models of the migrations, as some are connected to signals. Otherwise the
    # garbage collector would decide when they disappear.
    gc.collect()
    # The module may define models, so it can't be imported before setup().
    driven = import_module(module)
    with connection.schema_editor() as editor:
        for model in apps.get_app_config("companions").get_models():
            editor.create_model(model)
    return driven.drive()


def add_settings(settings: dict[str, Any]) -> None:
    """Add settings to those of all companions. Lists are appended to lists."""
    for name, value in settings.items():
        if isinstance(value, list):
            value = [*getattr(_settings, name, []), *value]
        setattr(_settings, name, value)


if __name__ == "__main__":
    main()
