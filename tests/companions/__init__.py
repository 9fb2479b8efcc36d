"""Packages for Django that are driven on stock Django and swapped: ``make companions``.

A module per package, or group of packages, without an underscore before its name:

docstring
    Its first line says what is checked; it gets into the documentation.
``PACKAGES``
    The names of the distributions. They are in the extra "companions" too.
``SETTINGS``
    What its project has beside ``_settings.py``, with "altdispatch" among the apps.
``drive()``
    Uses the packages as their documentation says, and returns what it saw as plain
    values. It asserts that there was something to see.

Its models are of the app that this package is, and its URLs are those of the project.
"""
