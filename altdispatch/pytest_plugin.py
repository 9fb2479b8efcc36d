"""Run a project's tests swapped: ``pytest -p altdispatch.pytest_plugin``.

The plugin swaps the dispatcher before anything of the project is imported, and says so
in the header of the report. You don't need it if ``"altdispatch"`` is in
``INSTALLED_APPS``.
"""

from __future__ import annotations

import pytest

from . import __version__, install, status


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("altdispatch").addoption(
        "--altdispatch-force",
        action="store_true",
        help="swap even if altdispatch does not know the dispatcher of this Django",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if not install(force=early_config.known_args_namespace.altdispatch_force):
        raise pytest.UsageError(
            f"altdispatch does not know the dispatcher of Django {status().django}: "
            "nothing is swapped. Use --altdispatch-force to swap all the same."
        )


def pytest_report_header() -> str:
    now = status()
    left_alone = f", left alone: {', '.join(now.left_alone)}" if now.left_alone else ""
    return (
        f"altdispatch: {__version__}, signals of Django {now.django} dispatched in "
        f"{now.implementation}{left_alone}"
    )
