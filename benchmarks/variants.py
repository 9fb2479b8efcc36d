"""The dispatchers that are compared, and the functions that install them."""

import os
from collections.abc import Callable
from importlib.metadata import version


def leave_stock() -> str:
    """Leave Django as it is; return a description."""
    return "Django's own"


def install_python() -> str:
    """Install altdispatch in plain Python; return a description."""
    os.environ.pop("ALTDISPATCH_REQUIRE_SPEEDUPS", None)
    os.environ["ALTDISPATCH_PURE_PYTHON"] = "1"
    return install()


def install_compiled() -> str:
    """Install altdispatch with the extension; return a description.

    Raise ImportError if there is no extension.
    """
    os.environ.pop("ALTDISPATCH_PURE_PYTHON", None)
    os.environ["ALTDISPATCH_REQUIRE_SPEEDUPS"] = "1"
    return install()


def install() -> str:
    """Install altdispatch; return a description.

    Raise RuntimeError if nothing is swapped: the figures would be stock Django's.
    """
    import altdispatch

    if not altdispatch.install():
        raise RuntimeError(f"altdispatch is not swapped in:\n{altdispatch.status()}")
    return f"altdispatch {altdispatch.__version__}, {altdispatch.status().reason}"


VARIANTS: dict[str, Callable[[], str]] = {
    "stock": leave_stock,
    "c": install_compiled,
    "python": install_python,
    # Stock Django compared with itself shows the noise of the machine.
    "stock-again": leave_stock,
    # Other packages that do the same, for the rows of peers.py only.
    "blinker": lambda: f"blinker {version('blinker')}",
    "psygnal": lambda: f"psygnal {version('psygnal')}",
    "PyDispatcher": lambda: f"PyDispatcher {version('PyDispatcher')}",
    "pluggy": lambda: f"pluggy {version('pluggy')}",
}
