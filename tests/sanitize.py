"""Run the extension under what finds memory that is used wrongly: ``make sanitize``.

    python tests/sanitize.py [address] [undefined] [memcheck] [debug]

``address``, ``undefined``
    The tests with the extension built for that sanitizer of gcc, with every check that
    it has.
``memcheck``
    Valgrind, on ``tests/exercise.py``. Errors are those with the extension's code in
    their stack.
``debug``
    The tests with Python's own checks of memory, ``PYTHONMALLOC=debug`` and ``-X dev``.
    With a debug build of Python, ``make sanitize ARGS=debug PYTHON=python3.14-dbg``,
    also with its assertions and ``leaks.py``, which counts references.

Without arguments, all of them, one after the other. Each has an extension of its own,
in a copy of the package. Exit status: 0 if nothing was found.
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
# What runs for hours so slowly, and is about processes that are started anew, isn't for
# this: the compiled code is reached by these.
TESTS = [
    "tests/contract",
    "tests/test_state_machine.py",
    "tests/test_hostile.py",
    "tests/test_swap.py",
    "tests/test_memory.py",
    "tests/test_implementations.py",
]


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit status."""
    unknown = set(arguments) - set(CHECKS)
    if unknown:
        sys.exit(f"there is no {', '.join(sorted(unknown))}: {', '.join(CHECKS)}")
    failed = []
    for name in arguments or CHECKS:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            if not CHECKS[name](Path(folder)):
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return bool(failed)


def build(folder: Path, flags: str) -> Path:
    """Copy the tree into ``folder`` and build its extension; return the copy."""
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
    """Return the path of a library of gcc's."""
    command = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def check_addresses(folder: Path) -> bool:
    """Look for memory that is used after it was freed, and outside its bounds.

    Leaks aren't asked for: the interpreter leaves memory when it ends. Those of the
    extension are found by tests/test_memory.py.
    """
    environment = {
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
        "LD_PRELOAD": find_library("libasan.so"),
        # Every object is one for the sanitizer.
        "PYTHONMALLOC": "malloc",
    }
    return run_sanitized(folder, "address", environment)


def check_undefined(folder: Path) -> bool:
    """Look for what C leaves undefined."""
    environment = {
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "LD_PRELOAD": find_library("libubsan.so"),
    }
    return run_sanitized(folder, "undefined", environment)


def check_memory(folder: Path) -> bool:
    """Run the exercise under valgrind."""
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
        # The interpreter leaves memory when it ends; see check_addresses().
        if not error.findtext("kind", "").startswith("Leak_")
        and any("_speedups" in (place.text or "") for place in error.iter("obj"))
    ]
    for error in errors:
        print(ElementTree.tostring(error, encoding="unicode"))
    return not errors


def check_debug(folder: Path) -> bool:
    """Run the tests with Python's own checks, and those of its macros."""
    return run_tests(build(folder, f"{FLAGS} -UNDEBUG"), {"PYTHONMALLOC": "debug"})


CHECKS: dict[str, Callable[[Path], bool]] = {
    "address": check_addresses,
    "undefined": check_undefined,
    "memcheck": check_memory,
    "debug": check_debug,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
