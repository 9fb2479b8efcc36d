"""Application configuration: a project with altdispatch among its apps, or not.

Each side is a process of its own, in which ``project.story`` happens.
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

from .recording import PATIENCE

ROOT = Path(__file__).parents[2]
STORY = ["-m", "tests.system.project.story"]
SWAPPED_FIRST = ["-m", "altdispatch", "run", *STORY]


def tell_story(place, command=STORY):
    """Return the diary of the project, and altdispatch's status if it was there."""
    story = subprocess.run(
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
        timeout=PATIENCE,
    )
    # In its debug mode, asyncio says so where the machine is busy.
    errors = re.sub("^Executing <.*> took .*\n", "", story.stderr, flags=re.MULTILINE)
    assert (story.returncode, errors) == (0, "")
    told = json.loads(story.stdout)
    return told["diary"], told["status"]


@pytest.fixture(scope="module")
def stock_diary():
    diary, status = tell_story("")
    assert status is None
    return diary


@pytest.mark.parametrize("place", ["first", "middle", "last", "overridden later"])
def test_the_place_among_the_apps_is_free(stock_diary, implementation, place):
    diary, status = tell_story(place)
    assert diary == stock_diary
    assert status["installed"]
    assert status["implementation"] == implementation
    assert status["left_alone"] == {}


def test_before_anything_is_loaded(stock_diary, implementation):
    diary, status = tell_story("", SWAPPED_FIRST)
    assert diary == stock_diary
    assert status["installed"]
    assert status["implementation"] == implementation


@pytest.mark.parametrize(
    "entry",
    [
        # Connected at import, before and after the app of the models.
        "ledger has page 1",
        "early receiver: Loaf instance created update_fields raw using of ModelSignal",
        # Connected in ready(), of an app before and one after that.
        "ledger expects Rye None",
        "office signs Rye True",
        # A signal sent while the apps start, and its asynchronous receiver.
        "told while starting: praise for the first loaf, 1",
        "it smells of the first loaf",
        # What receivers of Django's own did.
        "content type renamed: True",
        # Requests and migrations.
        "ledger sees a request at WSGIHandler",
        "ledger is migrated True",
        "office sees bakery migrated on default: bakery.0002_loaf",
        # Other apps for a while.
        "apps: ledger contenttypes auth bakery",
        "back to 5",
        "8 sold",
    ],
)
def test_the_story_tells(stock_diary, entry):
    assert entry in stock_diary


def test_setting_up_again_changes_nothing(stock_diary):
    start = stock_diary[: stock_diary.index("office is ready True []") + 1]
    assert [entry for entry in start if "is ready" in entry] == [
        *("ledger is ready", "bakery is ready", "office is ready True []")
    ]


def test_other_apps_for_a_while(compare):
    """The configurations that are made for the time are senders and receivers."""
    some = ["django.contrib.contenttypes", "django.contrib.sites"]

    def count():
        gc.collect()
        senders = list(apps.get_app_configs())
        return (
            [signal.has_listeners(sender) for signal in signals for sender in senders],
            [len(signal.receivers) - before for signal, before in signals.items()],
        )

    signals = {}

    def forget_the_dead(signal):
        signal.has_listeners()
        # Up to 5.2 an entry outlives its sender, and is that of what has its id next.
        living = {id(sender) for sender in [None, *apps.get_app_configs()]}
        signal.receivers[:] = [e for e in signal.receivers if e[0][1] in living]

    def scenario():
        gc.collect()
        for signal in (pre_migrate, post_migrate):
            forget_the_dead(signal)
            signals[signal] = len(signal.receivers)
        before = count()
        with override_settings(INSTALLED_APPS=some):
            meanwhile = count()
            with override_settings(INSTALLED_APPS=[some[0]]):
                less = count()
            again = count()
        return before, meanwhile, less, again, count()

    seen = compare(scenario, sent=["setting_changed"])
    before, meanwhile, *_ = seen.answer
    assert before != meanwhile
