"""Use other packages for Django, stock and swapped: ``make companions``.

Each package, or group of packages, has a module without an underscore before its name:

docstring
    Its first line says what is checked; the documentation includes it.
``PACKAGES``
    The names of the distributions. They are in the extra "companions" too.
``SETTINGS``
    The project's settings in addition to ``_settings.py``, with "altdispatch" among
    the apps.
``drive()``
    Uses the packages as their documentation says, and returns what it observed as plain
    values. It asserts that it observed something.

The module's models belong to the app that this package is. Its URLs are the project's.
"""
