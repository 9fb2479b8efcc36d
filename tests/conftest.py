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

# A separate project that the type checker uses.
collect_ignore = ["downstream"]


def pytest_configure(config: pytest.Config) -> None:
    if not COUNTS_REFERENCES:
        # Django's ASGI handler relies on reference counting to close a request's body.
        config.addinivalue_line(
            "filterwarnings",
            "ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning",
        )


def pytest_xdist_auto_num_workers() -> int:
    """Return twice the number of cores: half of the tests wait for other processes."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests, so that no core is idle in the end."""
    items.sort(key=lambda item: item.path.stem != "test_state_machine")


@contextmanager
def monitored() -> Iterator[None]:
    """Enable monitoring, with a subscriber that gets every call."""
    monitoring.enable()
    with monitoring.subscribe(str, slower_than=0):
        yield
    monitoring.disable()
    monitoring.reset()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests on each implementation, and marked tests also with monitoring."""
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
    """Run the test with each implementation that is present; return its name.

    The implementation is also used by ``install()`` and in processes that the test
    starts.
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
def ignore_slow_callback_warnings() -> None:
    """Drop asyncio's warnings of slow callbacks: a busy machine is no difference."""

    def is_no_slow_callback(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Executing %s took")

    logging.getLogger("asyncio").addFilter(is_no_slow_callback)


@pytest.fixture(autouse=True)
def asyncio_debug(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that switches asyncio's debug mode for new event loops.

    It starts off, even in Python's development mode: in debug mode altdispatch leaves
    everything to asyncio and asgiref, and would not be tested.
    """

    def debug(on: bool) -> None:
        monkeypatch.setattr(asyncio.coroutines, "_is_debug_mode", lambda: on)

    debug(False)
    return debug


@pytest.fixture
def Signal(implementation: str) -> type:
    """Return the ``Signal`` of an implementation; Django's stays unchanged."""
    return IMPLEMENTATIONS[implementation].Signal


@pytest.fixture
def swapped(implementation: str) -> Iterator[None]:
    """Swap Django's dispatcher for an implementation."""
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
    """Restore the receivers of the signals afterwards."""
    before = [[*signal.receivers] for signal in signals]
    yield
    for signal, receivers in zip(signals, before, strict=True):
        with signal.lock:
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()


@pytest.fixture(autouse=True)
def reset_early_starts() -> None:
    """Forget which receivers waited in an earlier test, so that all start early."""
    altdispatch.together._left_to_django.clear()


@pytest.fixture(autouse=True)
def remove_patches_of_earlier_tests() -> None:
    """Remove the overrides of earlier tests' signal classes, as checks report them.

    The classes are collected late, and on PyPy some never are.
    """
    for cls in find_subclasses(django.dispatch.Signal):
        module = sys.modules.get(cls.__module__)
        is_from_test = cls.__module__.startswith("tests.")
        if is_from_test and getattr(module, cls.__qualname__, None) is not cls:
            for name in {"_live_receivers", "_clear_dead_receivers"} & {*vars(cls)}:
                delattr(cls, name)


@pytest.fixture(autouse=True)
def assert_not_swapped() -> Iterator[None]:
    """Check that no test starts or ends with the dispatcher swapped."""
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
    """Run a scenario with both classes of signals and compare the results.

    The scenario takes a class and returns what it observes, as plain values. The
    fixture returns the result of stock Django.
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
    """Run a scenario on stock Django and swapped, and compare the results.

    The scenario runs twice, so it must clean up after itself. It returns what it
    observes, as plain values. The fixture returns the result of stock Django.
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
    """Run a program in a new interpreter and return its output, stderr last.

    ``arguments`` are options of the interpreter, before the name of the program.
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
