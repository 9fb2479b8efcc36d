"""Which of the two implementations of the dispatcher is in use, and why.

``dispatcher.py`` is complete. Where the extension was built, it handles the calls of
the methods that cost most; what is unusual about them, it leaves to those in Python.
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
    """One of the two.

    Attributes:

        name
            ``"c"`` or ``"python"``.
        reason
            Why it's this one.
        Signal
            The class of its signals.
        make_coroutines, start
            How its asynchronous receivers are called, and started.
        compile
            Makes the extension handle the calls of a new function, if it has code for
            one of that name, and returns what is to be used in its place.
        lend
            Makes the extension handle the calls of Django's own ``_live_receivers``, or
            stops that. None where it can't: in Python, and on Python 3.11.
        watch, get_strand
            Make the extension count and time what it calls, and return the number that
            it keeps of this thread: see altdispatch/watching.py. None in Python.
    """

    name: str
    reason: str
    Signal: type[Signal]
    make_coroutines: Callable[..., list[Any]]
    start: Callable[..., Any]
    compile: Compile
    lend: Callable[[FunctionType, bool], None] | None
    watch: Callable[..., None] | None
    get_strand: Callable[[], memoryview] | None


def graft(
    method: FunctionType, original: FunctionType, compile: Compile
) -> FunctionType:
    """Return a copy of a method of ours that introspection takes for ``original``."""
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
    """Return the one with the extension; raise ImportError if that can't be had."""
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
        lend=getattr(_speedups, "lend", None),
        watch=getattr(_speedups, "watch", None),
        get_strand=getattr(_speedups, "get_strand", None),
    )


def in_python(reason: str) -> Implementation:
    """Return the one that is always there."""
    return Implementation(
        name="python",
        reason=reason,
        Signal=Signal,
        make_coroutines=make_coroutines,
        start=start,
        compile=lambda function: function,
        lend=None,
        watch=None,
        get_strand=None,
    )


def _why_not_built() -> str:
    """Return why there is no extension for this Python, and how to get it."""
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
    """Return whether the environment asks for the one in Python."""
    return _is_set("ALTDISPATCH_PURE_PYTHON")


def _choose() -> Implementation:
    """Return what the environment asks for, as far as it's there.

    Raises ImportError if ``ALTDISPATCH_REQUIRE_SPEEDUPS`` is set and there are none.
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


#: The one in use.
in_use = _choose()
dispatcher.make_coroutines = in_use.make_coroutines
together.start = in_use.start
