"""How Sphinx builds the documentation."""

import re
from pathlib import Path

import altdispatch

project = "altdispatch"
author = "The altdispatch maintainers"
copyright = f"2026, {author}"
release = version = altdispatch.__version__

extensions = ["sphinx.ext.autodoc"]
# The tables of the benchmarks are parts of a page.
exclude_patterns = ["_build", "results"]

html_theme = "furo"
html_title = f"altdispatch {release}"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# A build needs no network, so what others document can't be looked up.
nitpick_ignore_regex = [
    ("py:(class|obj)", r"(?!altdispatch\.).*"),
    ("py:class", r"altdispatch\.dispatcher\.F"),
]


def add_results(app, page, source):
    """Add the tables that the benchmarks have written to the page about them."""
    if page != "explanation/performance":
        return
    for file in sorted(Path(app.srcdir, "results").glob("bench-*-django*.rst")):
        python, django = re.findall(r"\d+\.\d+", file.stem)
        title = f"Python {python}, Django {django}"
        lines = ["", title, "-" * len(title), "", f".. include:: /results/{file.name}"]
        source[0] += "\n".join([*lines, ""])


def setup(app):
    app.connect("source-read", add_results)
