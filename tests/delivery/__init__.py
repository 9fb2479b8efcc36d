"""Test what happens to tasks when processes are killed: ``make delivery``.

A project with one model and one task. ``__main__.py`` starts its processes, kills them,
and counts tasks.
"""
