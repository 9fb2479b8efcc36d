"""How Sphinx builds the documentation."""

import re
from pathlib import Path

from django.conf import settings

import altdispatch

# django-debug-toolbar reads them when it's imported.
settings.configure()

project = "altdispatch"
author = "The altdispatch maintainers"
copyright = f"2026, {author}"
release = version = altdispatch.__version__

extensions = ["sphinx.ext.autodoc"]
# The tables of the runs are parts of pages.
exclude_patterns = ["_build", "results"]

html_theme = "furo"
html_title = f"altdispatch {release}"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
nitpicky = True
# A build needs no network, so what others document can't be looked up.
nitpick_ignore_regex = [
    ("py:(class|obj)", r"(?!altdispatch\.).*"),
    ("py:class", r"altdispatch\.(dispatcher|tasks|utils)\.[FT]"),
]


# By the page that they are for, what the files of a run are named after, and what it's
# called there.
RUNS = {
    "explanation/compatibility": {"companions": ", with other packages"},
    "explanation/performance": {
        "bench": "",
        "peers": ", beside other packages",
        "load": ", requests to a server",
    },
}
PLOTS = {
    "ratios": "How many times faster than Django each row is.",
    "costs": "What a send costs by the number of its receivers.",
}


def add_results(app, page, source):
    """Add what the runs have written to the page about them."""
    for run, remark in RUNS.get(page, {}).items():
        source[0] += f"\n.. _{run}:\n"
        for file in sorted(Path(app.srcdir, "results").glob(f"{run}-*-django*.rst")):
            python, django = re.findall(r"\d+\.\d+", file.stem)
            title = f"Python {python}, Django {django}{remark}"
            lines = ["", title, "-" * len(title), ""]
            for plot, alt in PLOTS.items():
                image = f"{file.stem}-{plot}.svg"
                if file.with_name(image).exists():
                    lines += [f".. image:: /results/{image}", f"   :alt: {alt}", ""]
            lines += [f".. include:: /results/{file.name}"]
            source[0] += "\n".join([*lines, ""])


def setup(app):
    app.connect("source-read", add_results)
