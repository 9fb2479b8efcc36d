"""Run the test that kills processes on a small scale, and check that it can fail."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="on PyPy, sqlite3 can't commit until Django's cursors are collected",
)

# Python imports this module at the start of each process.
LOSES_A_TASK = """
import altdispatch.tasks

receive = altdispatch.tasks.TaskReceiver.receive

def receive_less(self, **named):
    if named["instance"].number != 7:
        receive(self, **named)

altdispatch.tasks.TaskReceiver.receive = receive_less
"""
QUEUES_FOR_A_ROLLED_BACK_ORDER = """
import altdispatch.tasks

receive = altdispatch.tasks.TaskReceiver.receive

def receive_more(self, **named):
    receive(self, **named)
    if named["instance"].number == 11:
        self.task.enqueue(number=10)

altdispatch.tasks.TaskReceiver.receive = receive_more
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the test with a broken altdispatch.tasks."""

    def run(broken=""):
        (tmp_path / "sitecustomize.py").write_text(broken)
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        options = ["--orders=120", "--kills=4", "--seed=1", "sqlite"]
        return subprocess.run(
            [sys.executable, "-m", "tests.delivery", *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_each_committed_order_has_a_task(run):
    process = run()
    assert process.returncode == 0, process.stderr
    assert "sqlite3 | " in process.stdout
    assert " | 108 | 0 | 0 | 0 | " in process.stdout


def test_lost_task_is_detected(run):
    process = run(LOSES_A_TASK)
    assert process.returncode == 1
    assert "without=1, doubled=0, rolled_back=0" in process.stderr


def test_task_of_a_rolled_back_order_is_detected(run):
    process = run(QUEUES_FOR_A_ROLLED_BACK_ORDER)
    assert process.returncode == 1
    assert "without=0, doubled=0, rolled_back=1" in process.stderr
