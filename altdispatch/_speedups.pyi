from collections.abc import Callable
from contextvars import ContextVar
from types import FunctionType
from typing import Any

from .dispatcher import make_coroutines as make_coroutines
from .together import start as start

def compile(function: FunctionType) -> FunctionType: ...
def get_strand() -> memoryview: ...
def watch(
    find_counts: Callable[..., Any] | None,
    find_strand: Callable[..., Any] | None,
    get_greenlet: Callable[[], Any] | None,
    limit: int,
    report: Callable[..., None],
    is_silent: ContextVar[bool],
    /,
) -> None: ...

# From Python 3.12.
def accelerate(function: FunctionType, is_on: bool, /) -> None: ...
