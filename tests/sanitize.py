"""Check the extension for memory errors: ``make sanitize`` runs this.

    python tests/sanitize.py [address] [undefined] [memcheck] [debug]

``address``, ``undefined``
    Run the tests with the extension built for that sanitizer of gcc.
``memcheck``
    Run ``tests/exercise.py`` under valgrind. Only errors with the extension's code in
    their stack count.
``debug``
    Run the tests with Python's memory checks, ``PYTHONMALLOC=debug`` and ``-X dev``.
    On a debug build of Python, ``make sanitize ARGS=debug PYTHON=python3.14-dbg``, also
    with Python's assertions, and with ``leaks.py``, which counts references.

Without arguments, run all of them. Each builds the extension in a copy of the package.
Exit status: 0 if no errors were found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
FLAGS = "-Wall -Wextra -Werror -g -O1 -fno-omit-frame-pointer"
# These reach the compiled code. The other tests start processes, and would run for
# hours.
TESTS = [
    "tests/contract",
    "tests/test_state_machine.py",
    "tests/test_hostile.py",
    "tests/test_swap.py",
    "tests/test_memory.py",
    "tests/test_implementations.py",
]


def main(arguments: list[str]) -> int:
    """Run the checks named on the command line; return the exit status."""
    unknown = set(arguments) - set(CHECKS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(CHECKS)}")
    failed = []
    for name in arguments or CHECKS:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            if not CHECKS[name](Path(folder)):
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "no errors found")
    return bool(failed)


def build(folder: Path, flags: str) -> Path:
    """Copy the clone into ``folder`` and build its extension; return the copy."""
    copy = folder / "altdispatch"
    skipped = shutil.ignore_patterns(
        *(".*", "build", "dist", "*.so", "_build", "__pycache__", "*.egg-info")
    )
    shutil.copytree(ROOT, copy, ignore=skipped)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(
        command,
        cwd=copy,
        check=True,
        env={**os.environ, "ALTDISPATCH_REQUIRE_SPEEDUPS": "1", "CFLAGS": flags},
    )
    return copy


def run_tests(copy: Path, environment: dict[str, str]) -> bool:
    """Run the tests of a copy; return whether they passed."""
    command = [sys.executable, "-X", "dev", "-m", "pytest", "-q", "-x", *TESTS]
    process = subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "ALTDISPATCH_REQUIRE_SPEEDUPS": "1", **environment},
    )
    return process.returncode == 0


def run_sanitized(folder: Path, sanitizer: str, environment: dict[str, str]) -> bool:
    """Run the tests with the extension built for a sanitizer."""
    copy = build(folder, f"{FLAGS} -fsanitize={sanitizer} -fno-sanitize-recover=all")
    return run_tests(copy, environment)


def find_library(name: str) -> str:
    """Return the path of one of gcc's libraries."""
    command = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def check_addresses(folder: Path) -> bool:
    """Detect uses of freed memory, and accesses outside its bounds.

    Leaks aren't checked, as the interpreter frees little when it ends.
    tests/test_memory.py checks the extension's.
    """
    environment = {
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
        "LD_PRELOAD": find_library("libasan.so"),
        # The sanitizer must see the allocation of every object.
        "PYTHONMALLOC": "malloc",
    }
    return run_sanitized(folder, "address", environment)


def check_undefined(folder: Path) -> bool:
    """Detect undefined behaviour of C."""
    environment = {
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "LD_PRELOAD": find_library("libubsan.so"),
    }
    return run_sanitized(folder, "undefined", environment)


def check_memory(folder: Path) -> bool:
    """Run ``tests/exercise.py`` under valgrind."""
    copy = build(folder, FLAGS)
    report = folder / "memcheck.xml"
    command = [
        "valgrind",
        "--tool=memcheck",
        "--num-callers=30",
        "--xml=yes",
        f"--xml-file={report}",
        sys.executable,
        "-c",
        "from tests.exercise import *; exercise(); exercise()\n"
        "for _ in range(2): exercise_asynchronously(altdispatch.Signal)\n"
        "exercise_monitored()",
    ]
    process = subprocess.run(
        command,
        cwd=copy,
        env={
            **os.environ,
            "ALTDISPATCH_REQUIRE_SPEEDUPS": "1",
            "PYTHONMALLOC": "malloc",
        },
    )
    if process.returncode:
        return False
    errors = [
        error
        for error in ElementTree.parse(report).iter("error")
        # The interpreter frees little when it ends; see check_addresses().
        if not error.findtext("kind", "").startswith("Leak_")
        and any("_speedups" in (place.text or "") for place in error.iter("obj"))
    ]
    for error in errors:
        print(ElementTree.tostring(error, encoding="unicode"))
    return not errors


def check_debug(folder: Path) -> bool:
    """Run the tests with Python's memory checks and the assertions of its macros."""
    return run_tests(build(folder, f"{FLAGS} -UNDEBUG"), {"PYTHONMALLOC": "debug"})


CHECKS: dict[str, Callable[[Path], bool]] = {
    "address": check_addresses,
    "undefined": check_undefined,
    "memcheck": check_memory,
    "debug": check_debug,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
