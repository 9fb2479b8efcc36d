"""Fixtures for pytest, there where altdispatch is installed.

Each holds until its test ends. Importing this swaps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .utils import Sent, connected, muted, recorded


@pytest.fixture
def mute_signals() -> Iterator[Callable[..., None]]:
    """A function that takes what ``muted()`` takes, and mutes until the test ends.

    .. versionadded:: 0.2
    """
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(muted(*args, **kwargs))


@pytest.fixture
def connect_receiver() -> Iterator[Callable[..., Callable[..., Any]]]:
    """A function that takes what ``connected()`` takes, and connects until the end.

    .. versionadded:: 0.2
    """
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(connected(*args, **kwargs))


@pytest.fixture
def record_signals() -> Iterator[Callable[..., list[Sent]]]:
    """A function that takes what ``recorded()`` takes; it returns the list of sends.

    .. versionadded:: 0.2
    """
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(recorded(*args, **kwargs))
