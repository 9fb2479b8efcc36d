"""What becomes of tasks when processes are killed: ``make delivery``.

A project of its own, with one model and one task. ``__main__.py`` starts its processes,
kills them, and counts.
"""
