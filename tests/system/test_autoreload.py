"""Autoreload: a reloader that watches real files."""

import os
import threading

import pytest
from django.template.loader import render_to_string
from django.test import override_settings
from django.utils import translation
from django.utils.autoreload import StatReloader, autoreload_started, file_changed
from django.utils.translation import trans_real

from .recording import connected

LONG_AGO = 1_000_000_000


class SteppedReloader(StatReloader):
    """Run one step between two checks of the files, then stop."""

    SLEEP_TIME = 0

    def __init__(self, steps):
        super().__init__()
        # The reloader must know the files before it can notice a change.
        self.steps = iter([lambda: "begun", *steps])
        self.results = []

    @property
    def should_stop(self):
        step = next(self.steps, self.stop)
        self.results.append(step())
        return super().should_stop


@pytest.fixture
def files(tmp_path):
    """Return the paths of a template, a catalogue of translations and another file."""
    templates = tmp_path / "templates"
    templates.mkdir()
    return [templates / "hello.html", tmp_path / "de.mo", tmp_path / "notes.txt"]


@pytest.fixture
def compare_reloads(compare, files, tmp_path, caplog):
    """Run ``compare`` with steps for the autoreloader.

    The result is how the reloader ended, what the steps returned, the log, and the
    watched folders.
    """
    template = files[0]
    setting = {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [template.parent],
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    ["django.template.loaders.filesystem.Loader"],
                )
            ]
        },
    }

    def run_both(*steps, **kwargs):
        def run():
            caplog.clear()
            for file in files:
                file.write_text("Hello")
                os.utime(file, (LONG_AGO, LONG_AGO))
            reloader = SteppedReloader(steps)
            with (
                override_settings(TEMPLATES=[setting], LOCALE_PATHS=[tmp_path]),
                caplog.at_level("INFO", "django.utils.autoreload"),
            ):
                try:
                    reloader.run(threading.current_thread())
                    end = "stopped"
                except SystemExit as error:
                    end = error.code
            watched = sorted(
                (path.name, sorted(patterns))
                for path, patterns in reloader.directory_globs.items()
            )
            return end, reloader.results, caplog.messages, watched

        return compare(run, **kwargs)

    # Make Django connect its receiver for translations.
    translation.gettext("Hello")
    return run_both


def touch(file):
    later = file.stat().st_mtime + 10
    os.utime(file, (later, later))


def test_starting(compare_reloads):
    seen = compare_reloads(sent=["autoreload_started"], unsent=["file_changed"])
    end, *_, watched = seen.result
    assert end == "stopped"
    # Django's own receivers watch these.
    assert ["templates", ["**/*"]] in watched
    assert any(patterns == ["**/*.mo"] for _, patterns in watched)


def test_changes_that_django_handles(compare_reloads, files):
    template, catalogue, _ = files

    def change_template():
        before = render_to_string("hello.html")
        template.write_text("Hello again")
        touch(template)
        return before

    def change_catalogue():
        trans_real._translations["de"] = "to be forgotten"
        touch(catalogue)
        return render_to_string("hello.html")

    def is_loaded():
        return "de" in trans_real._translations

    seen = compare_reloads(
        change_template, change_catalogue, is_loaded, sent=["file_changed"]
    )
    end, results, *_ = seen.result
    changed = [call.get("file_path") for call in seen.of("file_changed")]
    assert (end, changed) == ("stopped", ["hello.html", "de.mo"])
    # Django's own receivers reset the loaders and forgot the catalogue.
    assert results == ["begun", "Hello", "Hello again", False, None]


def test_change_without_a_handler(compare_reloads, files):
    *_, notes = files

    def watch(sender, **kwargs):
        sender.watch_dir(notes.parent, "*.txt")

    with connected(autoreload_started, watch):
        seen = compare_reloads(
            lambda: touch(notes), sent=["autoreload_started", "file_changed"]
        )
    end, _, logged, _ = seen.result
    assert (end, logged) == (3, [f"{notes} changed, reloading."])


def test_change_that_a_receiver_handles(compare_reloads, files):
    *_, notes = files

    def watch(sender, **kwargs):
        sender.extra_files.add(notes)

    def handle(file_path, **kwargs):
        return file_path == notes

    with connected(autoreload_started, watch), connected(file_changed, handle):
        seen = compare_reloads(lambda: touch(notes), sent=["file_changed"])
    assert seen.result[0] == "stopped"
