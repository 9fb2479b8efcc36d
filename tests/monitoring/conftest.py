"""Fixtures for the tests of monitoring."""

import pytest

from altdispatch import dispatcher, monitoring


@pytest.fixture(autouse=True)
def monitored(implementation):
    """Monitoring is on, and nothing was counted."""
    monitoring.enable()
    monitoring.reset()
    yield
    monitoring.disable()
    monitoring.reset()
    assert not dispatcher.is_watched


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def signal(request, Signal):
    return Signal(use_caching=request.param)


@pytest.fixture
def calls():
    """Each call of a receiver, as a subscriber gets it."""
    calls = []
    with monitoring.subscribe(calls.append, slower_than=0):
        yield calls
