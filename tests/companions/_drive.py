"""Drive one companion in this process, and print what it saw.

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

#: What is another in each run: identifiers, moments and addresses.
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
    """Return what is seen of the companion in a new project in the current folder."""
    module = f"{__package__}.{companion.name}"
    add_settings({"ROOT_URLCONF": module, **companion.settings})
    if not swapped:
        _settings.INSTALLED_APPS.remove("altdispatch")
    os.environ["DJANGO_SETTINGS_MODULE"] = _settings.__name__
    django.setup()
    call_command("migrate", verbosity=0)
    # The models of the migrations, of which some are connected to signals, would be
    # there for as long as the garbage collector happens to let them.
    gc.collect()
    # Not before, as there may be models in it.
    driven = import_module(module)
    with connection.schema_editor() as editor:
        for model in apps.get_app_config("companions").get_models():
            editor.create_model(model)
    return driven.drive()


def add_settings(settings: dict[str, Any]) -> None:
    """Add to the settings of all; lists to the end of lists."""
    for name, value in settings.items():
        if isinstance(value, list):
            value = [*getattr(_settings, name, []), *value]
        setattr(_settings, name, value)


if __name__ == "__main__":
    main()
