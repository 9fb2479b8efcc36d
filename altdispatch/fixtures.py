"""Fixtures for pytest, which finds them if the package is installed.

The effect of each lasts until its test ends. Importing this module swaps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .utils import Sent, connected, muted, recorded


@pytest.fixture
def mute_signals() -> Iterator[Callable[..., None]]:
    """Return a function that mutes signals until the test ends, as ``muted()`` does.

    .. versionadded:: 0.2
    """
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(muted(*args, **kwargs))


@pytest.fixture
def connect_receiver() -> Iterator[Callable[..., Callable[..., Any]]]:
    """Return a function that connects a receiver until the end, as ``connected()``.

    .. versionadded:: 0.2
    """
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(connected(*args, **kwargs))


@pytest.fixture
def record_signals() -> Iterator[Callable[..., list[Sent]]]:
    """Return a function that records sends, and returns their list, as ``recorded()``.

    .. versionadded:: 0.2
    """
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(recorded(*args, **kwargs))
