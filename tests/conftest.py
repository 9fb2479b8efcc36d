from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import django.dispatch
import pytest

import altdispatch

from .implementations import IMPLEMENTATIONS


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    """The name of an implementation; the test runs with each that is present."""
    return request.param


@pytest.fixture
def Signal(implementation: str) -> type:
    """The ``Signal`` of an implementation, beside Django's untouched one."""
    return IMPLEMENTATIONS[implementation]


@pytest.fixture
def swapped(implementation: str) -> Iterator[None]:
    """Django's dispatcher swapped for an implementation."""
    assert altdispatch.install()
    yield
    altdispatch.uninstall()


@pytest.fixture(autouse=True)
def stock_before_and_after() -> Iterator[None]:
    """No test starts or ends with the dispatcher swapped."""
    assert not altdispatch.is_installed()
    yield
    assert not altdispatch.is_installed()


@pytest.fixture
def assert_same(Signal: type) -> Callable[[Callable[[type], Any]], Any]:
    """Assert that a scenario comes out the same with either class of signals.

    The scenario takes a class of signals and returns what can be seen of them, as
    plain values. What stock Django gave is returned.
    """

    def run_both(scenario: Callable[[type], Any]) -> Any:
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


def _outcome(scenario: Callable[..., Any], *args: Any) -> Any:
    """Return the scenario's result, or its error as a comparable value."""
    try:
        return scenario(*args)
    except Exception as error:
        return type(error), str(error)
