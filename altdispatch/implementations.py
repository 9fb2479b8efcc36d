"""Choose between the two implementations of the dispatcher, and say why.

``dispatcher.py`` is complete. If the extension was built, it handles the usual calls of
the methods that are called most, and leaves the others to Python.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

from . import dispatcher, together
from .dispatcher import (
    OWN_CLEAR_DEAD_RECEIVERS,
    OWN_LIVE_RECEIVERS,
    Signal,
    make_coroutines,
)
from .together import start

Compile = Callable[[FunctionType], FunctionType]


class Implementation(NamedTuple):
    """An implementation of the dispatcher.

    Attributes:

        name
            ``"c"`` or ``"python"``.
        reason
            Why this one is in use.
        Signal
            The class of its signals.
        make_coroutines, start
            The functions that call and start asynchronous receivers.
        compile
            Returns a compiled method for a function of the dispatcher, or the function
            itself if there is none.
        accelerate
            Makes Django's own ``_live_receivers`` run compiled code, or stops that.
            None in Python, and on Python 3.11.
        watch, get_strand
            Make the extension count sends and time receivers, and return the strand of
            this thread: see altdispatch/watching.py. None in Python.
    """

    name: str
    reason: str
    Signal: type[Signal]
    make_coroutines: Callable[..., list[Any]]
    start: Callable[..., Any]
    compile: Compile
    accelerate: Callable[[FunctionType, bool], None] | None
    watch: Callable[..., None] | None
    get_strand: Callable[[], memoryview] | None


def graft(
    method: FunctionType, original: FunctionType, compile: Compile
) -> FunctionType:
    """Return a copy of our ``method`` that introspects like ``original``."""
    copy = FunctionType(
        method.__code__,
        method.__globals__,
        original.__name__,
        method.__defaults__,
        method.__closure__,
    )
    copy.__doc__ = original.__doc__
    copy.__module__ = original.__module__
    copy.__qualname__ = original.__qualname__
    copy.__annotations__ = original.__annotations__.copy()
    copy = compile(copy)
    for own in (OWN_LIVE_RECEIVERS, OWN_CLEAR_DEAD_RECEIVERS):
        if id(method) in own:
            own[id(copy)] = copy
    return copy


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


def _compiled() -> Implementation:
    """Return the compiled implementation, or raise ImportError."""
    # Not `from . import`, whose error for a missing module is no ModuleNotFoundError.
    import altdispatch._speedups as _speedups

    contents = {
        "__doc__": Signal.__doc__,
        "__module__": "altdispatch",
        **{
            name: graft(method, method, _speedups.compile)
            for name, method in vars(Signal).items()
            if isinstance(method, FunctionType)
        },
    }
    return Implementation(
        name="c",
        reason="the extension is there",
        Signal=type("Signal", (Signal,), contents),
        make_coroutines=_speedups.make_coroutines,
        start=_speedups.start,
        compile=_speedups.compile,
        accelerate=getattr(_speedups, "accelerate", None),
        watch=_speedups.watch,
        get_strand=_speedups.get_strand,
    )


def in_python(reason: str) -> Implementation:
    """Return the implementation in Python, which is always there."""
    return Implementation(
        name="python",
        reason=reason,
        Signal=Signal,
        make_coroutines=make_coroutines,
        start=start,
        compile=lambda function: function,
        accelerate=None,
        watch=None,
        get_strand=None,
    )


def _why_not_built() -> str:
    """Return why the extension is missing, and how to get it."""
    # Slow to import, and rarely needed.
    import sysconfig

    if sys.implementation.name != "cpython":
        return "the extension was not built: it is only for CPython"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return (
            "the extension was not built: it is only for Python with the GIL, and this "
            "is a free-threaded build"
        )
    pattern = os.path.join(glob.escape(os.path.dirname(__file__)), "_speedups.*")
    others = [
        os.path.basename(path)
        for path in glob.glob(pattern)
        if path.endswith((".so", ".pyd"))
    ]
    if others:
        return (
            f"the extension was not built for this Python, but for another ({others[0]}"
            "): install altdispatch with this Python"
        )
    return (
        "the extension was not built: when altdispatch was installed there was no C "
        "compiler, there were no headers of this Python, or compiling failed. To see "
        "which, install it again with ALTDISPATCH_REQUIRE_SPEEDUPS=1 and pip's "
        "--force-reinstall --no-cache-dir"
    )


def is_python_chosen() -> bool:
    """Return whether the environment asks for the implementation in Python."""
    return _is_set("ALTDISPATCH_PURE_PYTHON")


def _choose() -> Implementation:
    """Return the implementation that the environment asks for, if it is available.

    Raise ImportError if ``ALTDISPATCH_REQUIRE_SPEEDUPS`` is set and the extension is
    missing.
    """
    if is_python_chosen():
        reason = "ALTDISPATCH_PURE_PYTHON is set"
    else:
        try:
            return _compiled()
        except ModuleNotFoundError:
            reason = _why_not_built()
        except ImportError as error:
            reason = f"the extension can't be loaded: {error}"
    if _is_set("ALTDISPATCH_REQUIRE_SPEEDUPS"):
        raise ImportError(
            f"ALTDISPATCH_REQUIRE_SPEEDUPS is set, but {reason}.",
            name="altdispatch._speedups",
        )
    return in_python(reason)


#: The implementation in use.
in_use = _choose()
dispatcher.make_coroutines = in_use.make_coroutines
together.start = in_use.start
