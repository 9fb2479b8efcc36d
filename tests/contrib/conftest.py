from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from altdispatch import monitoring

_NEEDS = {
    "test_debug_toolbar.py": ["debug_toolbar"],
    "test_browser.py": ["debug_toolbar", "selenium"],
    "test_examples.py": ["opentelemetry.instrumentation", "prometheus_client"],
    "test_opentelemetry.py": ["opentelemetry.instrumentation"],
    "test_prometheus.py": ["prometheus_client"],
    "test_sentry.py": ["sentry_sdk"],
}


def _is_installed(module: str) -> bool:
    package, _, _ = module.partition(".")
    return find_spec(package) is not None and find_spec(module) is not None


collect_ignore = [
    file for file, modules in _NEEDS.items() if not all(map(_is_installed, modules))
]


@pytest.fixture
def monitored(swapped: None) -> Iterator[None]:
    """Swap the dispatcher and enable monitoring, with counts of zero."""
    monitoring.reset()
    monitoring.enable()
    yield
    monitoring.disable()
    monitoring.reset()
