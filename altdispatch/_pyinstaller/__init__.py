"""What PyInstaller has to know; it finds this by the entry point ``pyinstaller40``."""

import os


def get_hook_dirs() -> list[str]:
    """Return the folders that have hooks."""
    return [os.path.dirname(__file__)]
