"""A faster drop-in for Django's signal dispatcher.

Put ``"altdispatch"`` into INSTALLED_APPS, and every signal of the project is
dispatched by it.

PYTEST_DONT_REWRITE: it may be imported before pytest, which would complain.
"""

from . import implementations
from .dispatcher import receiver
from .swap import Status, install, is_installed, status, uninstall

__version__ = "0.1.0"

Signal = implementations.in_use.Signal

__all__ = [
    "Signal",
    "Status",
    "__version__",
    "install",
    "is_installed",
    "receiver",
    "status",
    "uninstall",
]
