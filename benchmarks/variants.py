"""The dispatchers that are compared: a name, and how a process gets to it."""

from collections.abc import Callable


def leave_stock() -> str:
    """Leave Django as it is, and say so."""
    return "Django's own"


def install_python() -> str:
    """Swap altdispatch in, and say which.

    Raises RuntimeError if it did not swap: the figures would be stock's.
    """
    import altdispatch

    if not altdispatch.install():
        raise RuntimeError(f"altdispatch is not swapped in:\n{altdispatch.status()}")
    return f"altdispatch {altdispatch.__version__}, in plain Python"


VARIANTS: dict[str, Callable[[], str]] = {
    "stock": leave_stock,
    "python": install_python,
    # Stock against itself: how far from 1 the noise of a machine takes a ratio.
    "stock-again": leave_stock,
}
