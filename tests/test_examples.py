"""The example project is in order, and the demo tells the truth about it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import Line, Ratio, Report

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

# Imported at the start of every process that has it on its path: a dispatcher that
# loses an argument on the way to the receivers.
BROKEN = """
from altdispatch import Signal

send = Signal.send

def send_less(self, sender, **named):
    named.pop("using", None)
    return send(self, sender, **named)

Signal.send = send_less
"""


@pytest.fixture
def run(tmp_path):
    """Run Python in the shop's folder, the shop's database being in a new one."""

    def run(*arguments, path=()):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=EXAMPLES / "shop",
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "shop.settings",
                "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])),
                "SHOP_DATABASE": str(tmp_path / "shop.sqlite3"),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.parametrize(
    "command",
    [
        ["check", "--fail-level=WARNING"],
        ["makemigrations", "--check", "--dry-run"],
    ],
)
@pytest.mark.parametrize("settings", ["shop.settings", "shop.settings_stock"])
def test_the_shop_is_in_order(run, command, settings):
    process = run("manage.py", *command, f"--settings={settings}")
    assert process.returncode == 0, process.stdout + process.stderr


def test_the_shop_is_swapped(run):
    process = run("manage.py", "altdispatch")
    assert process.stdout.startswith("installed:      yes\n"), process.stderr


def test_the_demo_finds_no_difference(run):
    process = run(EXAMPLES / "demo.py", "--no-table")
    assert process.returncode == 0, process.stderr
    assert "The receivers saw the same" in process.stdout
    counts = {
        name: (int(stock), int(swapped))
        for name, stock, swapped in map(str.split, count_lines(process.stdout))
    }
    # As many as the work of the day sends, whoever dispatches.
    assert counts["user_logged_in"] == counts["user_login_failed"] == (1, 1)
    assert counts["order_placed"] == (2, 2)
    assert len(counts) == 17


def count_lines(output):
    """Return the lines of the table of what was received, without its total."""
    table = output.split("\nreceived ", 1)[1].split("\nin all ", 1)[0]
    return table.split("\n")[1:]


def test_the_demo_fails_where_receivers_see_something_else(run, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    process = run(EXAMPLES / "demo.py", "--no-table", path=[tmp_path])
    assert process.returncode == 1
    assert "The two days differ:" in process.stderr
    assert "The receivers saw the same" not in process.stdout
    lines = process.stderr.splitlines()
    with_using = [line for line in lines if line.startswith("-") and "using=" in line]
    assert any("audit.receivers: post_save" in line for line in with_using)
    assert not any(line.startswith("+") and "using=" in line for line in lines)


@pytest.fixture
def verdict():
    """The demo's verdict on these medians, which the highest are 0.01 above."""
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)

    def give(variant="c", **groups):
        def line(number, median):
            ratio = Ratio(median, median - 0.01, median + 0.01)
            return Line(f"row {number}", "1 us", {variant: ratio}, None, {})

        report = Report(
            ["stock", variant],
            {
                title: [line(*each) for each in enumerate(medians)]
                for title, medians in groups.items()
            },
            {"Python": "cpython 3.11.7 (64-bit)", "Django": "5.2.1"},
        )
        return demo.verdict(report)

    return give


def test_the_verdict_of_the_demo(verdict):
    said = verdict(Sending=[2.345, 14.9, 5], Saving=[1.2], Asynchronous=[4, 17])
    assert "altdispatch (compiled)" in said
    lines = said.splitlines()
    assert f"{'Sending':26}2.3 to 14.9" in lines
    assert f"{'Saving':26}1.2" in lines
    assert "Slower" not in said
    assert "1.0 is expected" not in said
    assert "in plain Python" in verdict("python", Sending=[1.1])


def test_the_verdict_of_the_demo_where_something_is_not_faster(verdict):
    said = verdict(Sending=[2, 0.9, 0.995], Asynchronous=[1.02, 3.8])
    assert "Slower than Django: row 1." in said
    assert "1.0 is expected where send() calls an asynchronous receiver" in said
    assert "needs Django 6.1" not in said
    said = verdict(Asynchronous=[1.02, 1.01])
    assert "needs Django 6.1 and Python 3.12, or newer; this is\nDjango 5.2" in said


def test_receipts_are_lost_only_where_the_task_is_apart(run):
    process = run(EXAMPLES / "receipts" / "run.py")
    assert process.returncode == 0, process.stdout + process.stderr
    stored, on_commit = process.stdout.split('when="commit"')
    for customer in ("ann", "ben", "dora"):
        assert re.search(rf"^  {customer} +1 receipt", stored, re.MULTILINE)
    assert re.search("^  ben +0 receipt", on_commit, re.MULTILINE)
    assert on_commit.count(" 1 receipt") == 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("import os; os.environ['RECEIPTS_WHEN'] = 'commit'", "Expected were {'ann'"),
        (
            "import django.db.models; del django.db.models.Model",
            "migrate .* ended with",
        ),
    ],
)
def test_receipts_that_are_missing_are_found(run, tmp_path, broken, message):
    (tmp_path / "sitecustomize.py").write_text(broken)
    process = run(EXAMPLES / "receipts" / "run.py", path=[tmp_path])
    assert process.returncode == 1
    assert re.search(message, process.stderr)
