"""How many instructions do ten thousand sends take?

    python -m benchmarks.instructions            compare with the counts in the tree
    python -m benchmarks.instructions --update   write them there

Valgrind's callgrind counts them: they are the same on every run, whatever else the
machine does. They depend on the compiler and the interpreter, so they are kept for each
pair, in instructions.json. Exit status: 1 if a row takes over 3 % more than it did; 0
too where there is nothing to compare with, and it says so.
"""

import argparse
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import django

from benchmarks import monitored, send, shop
from benchmarks.variants import VARIANTS

KEPT = Path(__file__).with_suffix(".json")
ROOT = Path(__file__).resolve().parent.parent
SENDS = 10_000
TOLERANCE = 1.03
# What the interpreter calls for threading.get_native_id(), and not while it sends:
# callgrind writes what it has counted whenever that is called.
MARK = "PyThread_get_thread_native_id"
ROWS = [
    "send, caching, no receivers",
    "send, caching, 3 of another sender",
    "send, caching, 1 receiver",
    "send, caching, 10 receivers",
    "send, caching, 3 bound methods",
    "send_robust, caching, 3 receivers",
    "has_listeners, caching, no receiver",
    "has_listeners, caching, 3 receivers",
    # Not of another sender: that depends on where in memory the senders are.
    "send, not caching, 3 receivers",
    "send, caching, no receivers, monitoring",
    "send, caching, 1 receiver, monitoring",
    "send, caching, 3 receivers, monitoring",
]


def main() -> int:
    """Do what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--update", action="store_true", help="keep the counts")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return 0
    counts = count()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    before = kept.get(build(), {})
    print(build())
    for name, instructions in counts.items():
        change = f"{instructions / before[name]:8.3f}" if name in before else "     new"
        print(f"{instructions / SENDS:10,.0f} {change}  {name}")
    if options.update:
        kept[build()] = counts
        KEPT.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
        return 0
    if not before:
        print("There are no counts for this compiler and Python to compare with.")
    return report_growth(before, counts)


def report_growth(before: Mapping[str, int], counts: Mapping[str, int]) -> int:
    """Say which rows have grown; return the exit status."""
    grown = [
        name
        for name in counts
        if counts[name] > TOLERANCE * before.get(name, counts[name])
    ]
    for name in grown:
        print(f"grown from {before[name]:,} to {counts[name]:,}: {name}")
    return bool(grown)


def build() -> str:
    """Return what the counts depend on."""
    command = ["gcc", "-dumpfullversion"]
    gcc = subprocess.run(command, capture_output=True, text=True, check=True)
    return (
        f"gcc {gcc.stdout.strip()}, CPython {platform.python_version()} "
        f"({platform.python_compiler()}), Django {django.get_version()}"
    )


def count() -> dict[str, int]:
    """Return the instructions that each row takes."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "counts"
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={output}",
            f"--dump-before={MARK}",
            *(sys.executable, "-m", "benchmarks.instructions", "--work"),
        ]
        process = subprocess.run(
            command,
            cwd=ROOT,
            # What's in the environment has its place in memory, which counts.
            env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise RuntimeError(f"the count failed:\n{process.stderr}")
        # One mark before each row and one after, at which its count is written; before
        # all of them those of the interpreter itself.
        first = len(list(output.parent.glob("counts.*"))) - 2 * len(ROWS)
        return {
            name: total(output.with_name(f"counts.{first + 2 * number}"))
            for number, name in enumerate(ROWS, 1)
        }


def total(part: Path) -> int:
    """Return the instructions in a file of callgrind's."""
    found = re.search(r"^(?:totals|summary): (\d+)", part.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"there is no count in {part}")
    return int(found[1])


def work() -> None:
    """Send, with a mark before and after each row."""
    shop.set_up()
    VARIANTS["c"]()
    rows = {row.name: row for row in [*send.ROWS, *monitored.ROWS]}
    for name in ROWS:
        with rows[name].prepare() as body:
            body.time(100)
            gc.collect()
            gc.disable()
            threading.get_native_id()
            body.time(SENDS)
            threading.get_native_id()
            gc.enable()


if __name__ == "__main__":
    sys.exit(main())
