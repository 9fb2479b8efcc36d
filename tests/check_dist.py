"""Install each built archive into a new environment, and run its tests.

``make dist`` runs ``python tests/check_dist.py dist/*``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

# Tests whose result may depend on the installation.
TESTS = [
    "tests/contract/test_dispatch.py",
    "tests/contract/test_identity.py",
    "tests/contract/test_interface.py",
    "tests/contract/test_lifetimes.py",
    "tests/contract/test_private_surface.py",
    "tests/test_command_line.py",
    "tests/test_implementations.py",
    "tests/test_pytest_plugin.py",
    "tests/test_utils.py",
]
NO_COMPILER = {"CC": "false", "ALTDISPATCH_REQUIRE_SPEEDUPS": "0"}


def check(
    archive: Path, source: Path, folder: Path, variables: dict[str, str] | None = None
) -> None:
    """Install ``archive`` and run tests from the unpacked ``source``.

    ``variables`` are set in the environment while it is installed and tested.
    """
    os.environ.update(variables or {})
    environment = Path(tempfile.mkdtemp(dir=folder))
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    run(folder, python, "-m", "pip", "install", "--quiet", archive)
    installed = run(folder, python, "-m", "pip", "list", "--format", "freeze")
    names = {line.partition("==")[0].lower() for line in installed.split()}
    expected = {"altdispatch", "django", "asgiref", "sqlparse", "pip", "setuptools"}
    assert names <= expected, f"{archive.name} pulls in {names - expected}"
    run(folder, python, "-m", "pip", "install", "--quiet", f"{archive}[test]")
    # The tests must import the installed package, not the source.
    found = run(source, python, "-c", "import altdispatch; print(altdispatch.__file__)")
    assert str(environment) in found, found
    status = run(source, python, "-m", "altdispatch")
    print(f"{archive.name}:", status, flush=True)
    if variables is NO_COMPILER:
        assert "the extension was not built: when altdispatch was installed" in status
    # Without the extension, a check warns, and tests/test_swap.py expects no warnings.
    tests = TESTS if variables is NO_COMPILER else [*TESTS, "tests/test_swap.py"]
    run(source, python, "-m", "pytest", "-q", "-n", "auto", *tests, show=True)


def run(folder: Path, *command: str | Path, show: bool = False) -> str:
    """Run a command in ``folder``; return its output unless it is shown."""
    process = subprocess.run(
        command, cwd=folder, text=True, stdout=None if show else subprocess.PIPE
    )
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed: {process.stdout or ''}")
    return process.stdout or ""


def main(archives: list[Path]) -> None:
    """Check a source distribution and the wheels beside it.

    pip builds a wheel to install a source distribution, so that is tested only where
    the result differs: without a compiler.
    """
    (sdist,) = (path for path in archives if path.name.endswith(".tar.gz"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "tar", "-xof", sdist.resolve())
        (source,) = folder.iterdir()
        (source / "altdispatch").rename(folder / "not-this-one")
        for wheel in archives:
            if wheel != sdist:
                check(wheel.resolve(), source, folder)
        check(sdist.resolve(), source, folder, NO_COMPILER)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
