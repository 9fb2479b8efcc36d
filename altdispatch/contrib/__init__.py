"""What :mod:`altdispatch.monitoring` sees, in other packages' windows.

Each module needs a package that altdispatch doesn't install by itself; the extra of its
name does: ``pip install "altdispatch[prometheus]"``.
"""
