"""A faster drop-in replacement for Django's signal dispatcher.

Put ``"altdispatch"`` into ``INSTALLED_APPS``, and it dispatches every signal of the
project.

PYTEST_DONT_REWRITE: pytest would warn if this was imported before it could rewrite it.
"""

from . import implementations
from .dispatcher import receiver
from .swap import Status, install, is_installed, status, uninstall

__version__ = "0.2.0"

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
