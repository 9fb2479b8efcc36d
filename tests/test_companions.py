"""Test that ``make companions`` finds differences and failures.

The tests run the one companion that needs no other package.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .companions._companion import names, read

ROOT = Path(__file__).resolve().parent.parent

# Python imports this module at the start of each process.
BACKWARDS = """
from altdispatch import Signal

send_robust = Signal.send_robust

def backwards(self, sender, **named):
    return send_robust(self, sender, **named)[::-1]

Signal.send_robust = backwards
"""
FAILING = """
from altdispatch import Signal

def fail(self, sender):
    raise RuntimeError("broken look-up")

Signal._live_receivers = fail
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the companion with a broken dispatcher."""

    def run(broken=""):
        (tmp_path / "sitecustomize.py").write_text(broken)
        return subprocess.run(
            [sys.executable, "-m", "tests.companions", "plugin_signal"],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_no_difference(run):
    process = run()
    assert process.returncode == 0, process.stderr
    assert "python: same, " in process.stdout
    assert process.stderr == ""


def test_another_order_is_a_difference(run):
    process = run(BACKWARDS)
    assert process.returncode == 1
    assert "python: different, " in process.stdout
    assert "same" not in process.stdout
    assert "+++ plugin_signal, python" in process.stderr


def test_a_failure_is_reported(run):
    process = run(FAILING)
    assert process.returncode == 1
    assert "python: fails, " in process.stdout
    assert "same" not in process.stdout
    assert "RuntimeError: broken look-up" in process.stderr


@pytest.mark.parametrize("name", names())
def test_each_project_has_altdispatch(name):
    assert "altdispatch" in read(name).settings["INSTALLED_APPS"]
