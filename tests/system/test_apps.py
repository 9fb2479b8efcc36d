"""Application configuration: run a project with and without altdispatch.

Each run of ``project.story`` is a process of its own.
"""

import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps
from django.db.models.signals import post_migrate, pre_migrate
from django.test import override_settings

from .recording import TIMEOUT

ROOT = Path(__file__).parents[2]
STORY = ["-m", "tests.system.project.story"]
SWAPPED_FIRST = ["-m", "altdispatch", "run", *STORY]


def run_story(place, command=STORY):
    """Return the diary of the project, and altdispatch's status if it is imported."""
    process = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *command],
        cwd=ROOT,
        env={
            **os.environ,
            "ALTDISPATCH_PLACE": place,
            "DJANGO_SETTINGS_MODULE": "tests.system.project.settings",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    # asyncio's debug mode logs slow callbacks on a busy machine.
    errors = re.sub("^Executing <.*> took .*\n", "", process.stderr, flags=re.MULTILINE)
    assert (process.returncode, errors) == (0, "")
    output = json.loads(process.stdout)
    return output["diary"], output["status"]


@pytest.fixture(scope="module")
def stock_diary():
    diary, status = run_story("")
    assert status is None
    return diary


@pytest.mark.parametrize("place", ["first", "middle", "last", "overridden later"])
def test_altdispatch_may_be_anywhere_in_installed_apps(
    stock_diary, implementation, place
):
    diary, status = run_story(place)
    assert diary == stock_diary
    assert status["installed"]
    assert status["implementation"] == implementation
    assert status["left_alone"] == {}


def test_swap_before_the_project_is_loaded(stock_diary, implementation):
    diary, status = run_story("", SWAPPED_FIRST)
    assert diary == stock_diary
    assert status["installed"]
    assert status["implementation"] == implementation


@pytest.mark.parametrize(
    "entry",
    [
        # Connected at import, before and after the app with the models.
        "ledger has page 1",
        "early receiver: Loaf instance created update_fields raw using of ModelSignal",
        # Connected in ready(), of an app before the models and of one after.
        "ledger expects Rye None",
        "office signs Rye True",
        # A signal sent during setup, and its asynchronous receiver.
        "told while starting: praise for the first loaf, 1",
        "it smells of the first loaf",
        # A receiver of Django's own.
        "content type renamed: True",
        # Requests and migrations.
        "ledger sees a request at WSGIHandler",
        "ledger is migrated True",
        "office sees bakery migrated on default: bakery.0002_loaf",
        # Apps overridden by override_settings().
        "apps: ledger contenttypes auth bakery",
        "back to 5",
        "8 sold",
    ],
)
def test_diary_entries(stock_diary, entry):
    assert entry in stock_diary


def test_second_setup_changes_nothing(stock_diary):
    start = stock_diary[: stock_diary.index("office is ready True []") + 1]
    assert [entry for entry in start if "is ready" in entry] == [
        *("ledger is ready", "bakery is ready", "office is ready True []")
    ]


def test_overridden_installed_apps(compare):
    """The temporary app configurations are senders and receivers."""
    some = ["django.contrib.contenttypes", "django.contrib.sites"]

    def count():
        gc.collect()
        senders = list(apps.get_app_configs())
        return (
            [signal.has_listeners(sender) for signal in signals for sender in senders],
            [len(signal.receivers) - before for signal, before in signals.items()],
        )

    signals = {}

    def drop_dead_receivers(signal):
        signal.has_listeners()
        # Up to Django 5.2, an entry outlives its sender, and matches a new object with
        # the same id.
        living = {id(sender) for sender in [None, *apps.get_app_configs()]}
        signal.receivers[:] = [e for e in signal.receivers if e[0][1] in living]

    def scenario():
        gc.collect()
        for signal in (pre_migrate, post_migrate):
            drop_dead_receivers(signal)
            signals[signal] = len(signal.receivers)
        before = count()
        with override_settings(INSTALLED_APPS=some):
            during = count()
            with override_settings(INSTALLED_APPS=[some[0]]):
                less = count()
            again = count()
        return before, during, less, again, count()

    seen = compare(scenario, sent=["setting_changed"])
    before, during, *_ = seen.result
    assert before != during
