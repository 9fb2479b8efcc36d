from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import django.dispatch
import pytest

import altdispatch
from altdispatch import monitoring
from altdispatch.naming import find_subclasses

from .implementations import COUNTS_REFERENCES, IMPLEMENTATIONS

ROOT = Path(__file__).parent.parent

# A project of its own, for the type checker.
collect_ignore = ["downstream"]


def pytest_configure(config: pytest.Config) -> None:
    if not COUNTS_REFERENCES:
        # Django's ASGI handler leaves it to the last reference to close a body.
        config.addinivalue_line(
            "filterwarnings",
            "ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning",
        )


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests to run at once: half of them wait for other processes."""
    return 2 * (os.cpu_count() or 1)


@contextmanager
def monitored() -> Iterator[None]:
    """Count and time everything, and have a subscriber told of every call."""
    monitoring.enable()
    with monitoring.subscribe(str, slower_than=0):
        yield
    monitoring.disable()
    monitoring.reset()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests on each implementation, and what is marked also with monitoring."""
    if "implementation" in metafunc.fixturenames:
        names = [*IMPLEMENTATIONS]
        marker = metafunc.definition.get_closest_marker("monitored")
        if marker is not None and marker.args != (False,):
            names.append("monitored")
        metafunc.parametrize("implementation", names, indirect=True)


@pytest.fixture
def implementation(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The name of an implementation; the test runs with each that is present.

    It's the one that is swapped in, here and in processes that the test starts.
    """
    chosen = IMPLEMENTATIONS.get(request.param, altdispatch.implementations.in_use)
    monkeypatch.setattr(altdispatch.implementations, "in_use", chosen)
    for module, name in [
        (altdispatch.dispatcher, "make_coroutines"),
        (altdispatch.together, "start"),
    ]:
        monkeypatch.setattr(module, name, getattr(chosen, name))
    monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", str(int(chosen.name == "python")))
    monkeypatch.delenv("ALTDISPATCH_REQUIRE_SPEEDUPS", raising=False)
    with monitored() if request.param == "monitored" else nullcontext():
        yield chosen.name


@pytest.fixture(autouse=True, scope="session")
def busy_machine_is_no_difference() -> None:
    """asyncio's debug mode logs what takes long, which tests of the log would see."""

    def is_of_interest(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Executing %s took")

    logging.getLogger("asyncio").addFilter(is_of_interest)


@pytest.fixture(autouse=True)
def asyncio_debug(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Set whether new event loops are in asyncio's debug mode.

    They aren't, also if Python is in its development mode: in debug mode, asyncio's and
    asgiref's own ways are taken, and nothing of ours would be tested.
    """

    def debug(on: bool) -> None:
        monkeypatch.setattr(asyncio.coroutines, "_is_debug_mode", lambda: on)

    debug(False)
    return debug


@pytest.fixture
def Signal(implementation: str) -> type:
    """The ``Signal`` of an implementation, beside Django's untouched one."""
    return IMPLEMENTATIONS[implementation].Signal


@pytest.fixture
def swapped(implementation: str) -> Iterator[None]:
    """Django's dispatcher swapped for an implementation."""
    assert altdispatch.install()
    yield
    altdispatch.uninstall()


@pytest.fixture(params=["stock", "swapped"])
def stock_or_swapped(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the test on stock Django, and again with the dispatcher swapped."""
    if request.param == "stock":
        yield
        return
    assert altdispatch.install()
    yield
    altdispatch.uninstall()


@contextmanager
def receivers_restored(*signals: django.dispatch.Signal) -> Iterator[None]:
    """Give signals back the receivers that they have now."""
    before = [[*signal.receivers] for signal in signals]
    yield
    for signal, receivers in zip(signals, before, strict=True):
        with signal.lock:
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()


@pytest.fixture(autouse=True)
def no_receivers_left_to_django() -> None:
    """Start receivers early, whatever they did in an earlier test."""
    altdispatch.together._left_to_django.clear()


@pytest.fixture(autouse=True)
def no_patched_classes_of_other_tests() -> None:
    """Undo what earlier tests' classes of signals override, as checks report it.

    They wait to be collected, and PyPy keeps some for good.
    """
    for cls in find_subclasses(django.dispatch.Signal):
        module = sys.modules.get(cls.__module__)
        of_a_test = cls.__module__.startswith("tests.")
        if of_a_test and getattr(module, cls.__qualname__, None) is not cls:
            for name in {"_live_receivers", "_clear_dead_receivers"} & {*vars(cls)}:
                delattr(cls, name)


@pytest.fixture(autouse=True)
def stock_before_and_after() -> Iterator[None]:
    """No test starts or ends with the dispatcher swapped."""
    assert not altdispatch.is_installed()
    yield
    assert not altdispatch.is_installed()


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Hide all objects that there are from garbage collections.

    With all tests imported, a full collection would take more than a tenth of a second.
    It hides them from ``gc.get_objects()`` and ``gc.get_referrers()``, too, by which
    altdispatch finds signals and patches: don't swap the dispatcher meanwhile.
    """
    if not hasattr(gc, "freeze"):  # On PyPy.
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@pytest.fixture
def assert_same(Signal: type) -> Callable[[Callable[[type], Any]], Any]:
    """Assert that a scenario comes out the same with either class of signals.

    The scenario takes a class of signals and returns what can be seen of them, as
    plain values. What stock Django gave is returned.
    """

    def run_both(scenario: Callable[[type], Any]) -> Any:
        with frozen_heap():
            expected = _outcome(scenario, django.dispatch.Signal)
            assert _outcome(scenario, Signal) == expected
        return expected

    return run_both


@pytest.fixture
def assert_same_swapped(
    implementation: str,
) -> Callable[[Callable[[], Any]], Any]:
    """Assert that a scenario comes out the same on stock Django and swapped.

    It's called twice, returns what receivers and caller saw, as plain values, and
    has to leave nothing behind. What stock Django gave is returned.
    """

    def run_both(scenario: Callable[[], Any]) -> Any:
        expected = _outcome(scenario)
        assert altdispatch.install()
        try:
            assert _outcome(scenario) == expected
        finally:
            altdispatch.uninstall()
        return expected

    return run_both


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """Run a program in a new interpreter; return what it wrote.

    What it wrote to stderr comes last. ``arguments`` are the interpreter's, before
    those that name the program.
    """

    def run(program: str, *arguments: str, exit_code: int = 0) -> str:
        script = tmp_path / "program.py"
        script.write_text(textwrap.dedent(program))
        process = subprocess.run(
            [sys.executable, *arguments, str(script)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": ""},
        )
        assert process.returncode == exit_code, process.stderr
        return process.stdout + process.stderr

    return run


def _outcome(scenario: Callable[..., Any], *args: Any) -> Any:
    """Return the scenario's result, or its error as a comparable value."""
    try:
        return scenario(*args)
    except Exception as error:
        return type(error), str(error)
