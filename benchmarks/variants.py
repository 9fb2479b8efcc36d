"""The dispatchers that are compared: a name, and how a process gets to it."""

import os
from collections.abc import Callable
from importlib.metadata import version


def leave_stock() -> str:
    """Leave Django as it is, and say so."""
    return "Django's own"


def install_python() -> str:
    """Swap altdispatch in, in plain Python, and say so."""
    os.environ.pop("ALTDISPATCH_REQUIRE_SPEEDUPS", None)
    os.environ["ALTDISPATCH_PURE_PYTHON"] = "1"
    return install()


def install_compiled() -> str:
    """Swap altdispatch in, compiled, and say so.

    Raises ImportError if it isn't compiled here.
    """
    os.environ.pop("ALTDISPATCH_PURE_PYTHON", None)
    os.environ["ALTDISPATCH_REQUIRE_SPEEDUPS"] = "1"
    return install()


def install() -> str:
    """Swap altdispatch in, and say which.

    Raises RuntimeError if it did not swap: the figures would be stock's.
    """
    import altdispatch

    if not altdispatch.install():
        raise RuntimeError(f"altdispatch is not swapped in:\n{altdispatch.status()}")
    return f"altdispatch {altdispatch.__version__}, {altdispatch.status().reason}"


VARIANTS: dict[str, Callable[[], str]] = {
    "stock": leave_stock,
    "c": install_compiled,
    "python": install_python,
    # Stock against itself: how far from 1 the noise of a machine takes a ratio.
    "stock-again": leave_stock,
    # Other packages that do the same job: for the rows of peers.py alone.
    "blinker": lambda: f"blinker {version('blinker')}",
    "psygnal": lambda: f"psygnal {version('psygnal')}",
    "PyDispatcher": lambda: f"PyDispatcher {version('PyDispatcher')}",
    "pluggy": lambda: f"pluggy {version('pluggy')}",
}
