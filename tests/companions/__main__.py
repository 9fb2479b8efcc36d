"""Run the companions on stock Django and swapped, and compare: ``make companions``.

    python -m tests.companions                   all of them
    python -m tests.companions wagtail sentry    some

Each companion runs on stock Django, with each implementation, and with monitoring, in
separate processes, as many of the packages patch Django. A run of all companions also
writes its table to docs/results/. Exit status: 0 if there was no difference.
"""

import argparse
import difflib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import django

import altdispatch

from ._companion import Companion, names, read

ROOT = Path(__file__).resolve().parents[2]
#: The environment variables that select each implementation.
SWAPPED = {
    "c": {"ALTDISPATCH_PURE_PYTHON": "0", "ALTDISPATCH_REQUIRE_SPEEDUPS": "1"},
    "python": {"ALTDISPATCH_PURE_PYTHON": "1", "ALTDISPATCH_REQUIRE_SPEEDUPS": "0"},
}
if find_spec("altdispatch._speedups") is None:
    del SWAPPED["c"]
MONITORED = ", monitoring"
#: What is compared with stock Django: each implementation, and one with monitoring.
RUNS = [*SWAPPED, f"{next(iter(SWAPPED))}{MONITORED}"]
# Some companions record the contents of a set in its order.
SAME_IN_ALL_RUNS = {"PYTHONHASHSEED": "0"}
TIME_LIMIT = 300


class Failed(Exception):
    """A companion's process failed."""


@dataclass(frozen=True)
class Result:
    """A companion's outcome in each run: "same", or something else."""

    companion: Companion
    lines: int
    outcomes: dict[str, str]

    def __str__(self) -> str:
        outcomes = [f"{name}: {text}" for name, text in self.outcomes.items()]
        return f"{self.companion.name}, {self.lines} lines, {', '.join(outcomes)}"

    def is_good(self) -> bool:
        """Return whether there was no difference."""
        return set(self.outcomes.values()) == {"same"}

    def cells(self) -> list[str]:
        """Return the cells of the table's row."""
        packages = [f"{name} {version(name)}" for name in self.companion.packages]
        return [
            ", ".join(packages) or "Django alone",
            self.companion.checks,
            str(self.lines),
            *self.outcomes.values(),
        ]


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.companions",
        description="Compare packages for Django, stock and swapped.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    options = parser.parse_args()
    results = []
    for name in options.names or names():
        results.append(compare(read(name)))
        print(results[-1], flush=True)
    if not options.names:
        file = documented_table()
        file.write_text(table(results), encoding="utf-8")
        print(f"the table: {file.relative_to(ROOT)}")
    return not all(result.is_good() for result in results)


def compare(companion: Companion) -> Result:
    """Run a companion with all dispatchers and compare."""
    try:
        stock = run_companion(companion, "stock")
    except Failed as failure:
        print(failure, file=sys.stderr)
        return Result(companion, 0, dict.fromkeys(RUNS, "fails on stock Django"))
    outcomes = {run: compare_with(stock, companion, run) for run in RUNS}
    return Result(companion, len(stock), outcomes)


def compare_with(stock: Sequence[str], companion: Companion, run: str) -> str:
    """Return how a run compares with stock Django."""
    try:
        swapped = run_companion(companion, run)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return "fails"
    if swapped == stock:
        return "same"
    sides = [f"{companion.name}, {side}" for side in ("stock", run)]
    diff = difflib.unified_diff(stock, swapped, *sides, lineterm="")
    print("\n".join(diff), file=sys.stderr)
    return "different"


def run_companion(companion: Companion, run: str) -> list[str]:
    """Run a companion; return the lines of its output, or raise Failed."""
    dispatcher = run.removesuffix(MONITORED)
    options = ["--swapped"] if dispatcher in SWAPPED else []
    if run.endswith(MONITORED):
        options.append("--monitoring")
    process = subprocess.run(
        [sys.executable, "-m", f"{__package__}._drive", companion.name, *options],
        cwd=ROOT,
        env={**os.environ, **SAME_IN_ALL_RUNS, **SWAPPED.get(dispatcher, {})},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    if process.returncode:
        raise Failed(f"{companion.name}, {run}:\n{process.stderr}")
    output = json.loads(process.stdout)
    assert output["dispatcher"] == dispatcher, output["dispatcher"]
    return json.dumps(output["seen"], indent=1).split("\n")


def documented_table() -> Path:
    """Return the path of the table for this Python and this Django."""
    python = "{}.{}".format(*sys.version_info)
    release = "{}.{}".format(*django.VERSION)
    results = ROOT / "docs" / "results"
    return results / f"companions-{python}-django{release}.rst"


def table(results: Sequence[Result]) -> str:
    """Return the results as reStructuredText, for a page to include."""
    header = ["Packages", "What is compared", "Lines of it", *RUNS]
    lines = [
        f"- altdispatch: {altdispatch.__version__}",
        f"- Python: {platform.python_version()}",
        f"- Django: {django.get_version()}",
        f"- Date: {date.today()}",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    for row in header, *(result.cells() for result in results):
        bullets = ["   * -", *["     -"] * (len(row) - 1)]
        lines += [f"{bullet} {cell}" for bullet, cell in zip(bullets, row, strict=True)]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
