"""Test ``pytest -p altdispatch.pytest_plugin``, and the fixtures without it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import altdispatch

from .conftest import ROOT

HEADER = f"altdispatch: {altdispatch.__version__}"

TESTS = """\
import altdispatch
from django.db.models.signals import post_save

swapped_at_import = altdispatch.is_installed()


def test_swapped():
    assert swapped_at_import
    assert altdispatch.is_installed()
    assert post_save.send(int) == []
"""

FORGET_RELEASES = """\
import altdispatch.swap

altdispatch.swap._KNOWN.clear()
"""

WITH_FIXTURES = """\
from django.dispatch import Signal

signal = Signal()


def receiver(**kwargs):
    return "called"


class First:
    pass


class Second:
    pass


def test_all(mute_signals, connect_receiver, record_signals):
    sends = record_signals(signal)
    assert connect_receiver(receiver, signal) is receiver
    signal.send(First)
    mute_signals(signal, senders=[Second])
    signal.send(Second)
    assert [sent.answers for sent in sends] == [[(receiver, "called")], []]


def test_afterwards():
    assert signal.receivers == []
    assert vars(signal).keys() == vars(Signal()).keys()
"""


@pytest.fixture
def run_pytest(tmp_path):
    def run(*arguments, exit_code=0, tests=TESTS):
        (tmp_path / "test_it.py").write_text(tests)
        (tmp_path / "forget.py").write_text(FORGET_RELEASES)
        process = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "pytest", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
        )
        assert process.returncode == exit_code, process.stdout + process.stderr
        return process.stdout + process.stderr

    return run


def test_plugin_swaps_and_reports_it(run_pytest):
    output = run_pytest("-p", "altdispatch.pytest_plugin")
    assert f"{HEADER}, signals of Django " in output
    assert f"dispatched in {altdispatch.status().implementation}" in output
    assert "1 passed" in output


def test_without_the_plugin(run_pytest):
    output = run_pytest(exit_code=1)
    assert HEADER not in output
    assert "1 failed" in output


def test_unknown_dispatcher_ends_the_run(run_pytest):
    output = run_pytest("-p", "forget", "-p", "altdispatch.pytest_plugin", exit_code=4)
    assert "nothing is swapped. Use --altdispatch-force" in output


def test_unknown_dispatcher_with_force(run_pytest):
    output = run_pytest(
        "-p", "forget", "-p", "altdispatch.pytest_plugin", "--altdispatch-force"
    )
    assert "1 passed" in output


def test_fixtures(run_pytest):
    """They last until the end of the test, and are installed with the package."""
    plugins = entry_points(group="pytest11")
    assert plugins["altdispatch.fixtures"].value == "altdispatch.fixtures"
    output = run_pytest("-p", "altdispatch.fixtures", tests=WITH_FIXTURES)
    assert "2 passed" in output
    assert "dispatched in" not in output


def test_package_imported_before_pytest(tmp_path):
    """pytest must not warn that it can't rewrite the plugin's assertions."""
    (tmp_path / "altdispatch").symlink_to(Path(altdispatch.__file__).parent)
    metadata = tmp_path / "altdispatch-0.dist-info"
    metadata.mkdir()
    # Metadata as in a wheel; an editable installation doesn't list the files.
    for name, text in {
        "METADATA": "Metadata-Version: 2.1\nName: altdispatch\nVersion: 0\n",
        "RECORD": "altdispatch/__init__.py,,\naltdispatch/fixtures.py,,\n",
        "entry_points.txt": "[pytest11]\naltdispatch.fixtures = altdispatch.fixtures\n",
    }.items():
        (metadata / name).write_text(text)
    (tmp_path / "test_it.py").write_text(TESTS)
    process = subprocess.run(
        [sys.executable, "-m", "altdispatch", "run", "-m", "pytest", "-W", "error"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "1 passed" in process.stdout
