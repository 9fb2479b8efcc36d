"""The figures of the newest run of ``make bench``, for pages and for a plot.

``python docs/figures.py`` draws the plot of the front page and the README. In a page,
:gain:`row` is how many times as fast as Django a row of that run is with the extension,
and :gain-python:`row` in plain Python.
"""

import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
PLOT = DOCS / "images" / "gain.svg"
# Of a table's row: name, time of Django, figures of the extension and of plain Python.
LINE = re.compile(
    r"^   \* - (?P<name>.+)\n     - .+\n"
    r"     - (?P<c>[\d.]+)\n     - (?P<python>[\d.]+)$",
    re.MULTILINE,
)
# What the plot calls its rows, beside the worst of the run.
PLOTTED = {
    "send, caching, no receivers": "send() without receivers",
    "send, caching, 1 receiver": "send() to one receiver",
    "send, caching, 10 receivers": "send() to ten receivers",
    "send, caching, 3 receivers, Sentry, signals_spans=False": (
        "send() to three receivers, under Sentry's SDK"
    ),
    "asend, 10 asynchronous receivers": (
        "asend() to ten asynchronous receivers that don't wait"
    ),
    "asend, 10 that suspend once": "asend() to ten asynchronous receivers that wait",
    "send, 10 asynchronous receivers": "send() to ten asynchronous receivers",
    "connect, 1,000 senders": "connect() of 1,000 receivers, a sender each",
    "read an instance, 1 receiver on this model": (
        "a query that builds an instance, one receiver"
    ),
    "save, 3 receivers before and 3 after": "save() with six receivers",
    "request, a page of 25 instances": "a page of 25 instances",
}
# Rows that do more than Django does: they measure what monitoring costs.
MONITORED = (", monitoring", ", a subscriber")
# Bars begin at 1, on a logarithmic scale.
WIDTH, LEFT, UNIT, HEIGHT = 500, 40, 400, 42


def newest() -> Path:
    """Return the table of the newest Python."""
    tables = (DOCS / "results").glob("bench-*-django*.rst")
    return max(tables, key=lambda table: list(map(int, _numbers(table))))


def releases() -> tuple[str, str]:
    """Return the Python and the Django of that table."""
    python, python_minor, django, django_minor = _numbers(newest())
    return f"{python}.{python_minor}", f"{django}.{django_minor}"


def _numbers(table: Path) -> list[str]:
    return re.findall(r"\d+", table.stem)


def read(implementation: str = "c") -> dict[str, float]:
    """Return how many times as fast as Django each row of that table is."""
    lines = LINE.finditer(newest().read_text(encoding="utf-8"))
    return {line["name"]: float(line[implementation]) for line in lines}


def short(ratio: float) -> str:
    """Return a ratio with two or three digits."""
    return f"{ratio:.{2 if ratio < 2 else 1 if ratio < 10 else 0}f}"


def _role(
    implementation, role, rawtext, text, lineno, inliner, options=None, content=()
):
    # Drawing needs no Sphinx.
    from docutils import nodes

    # The page is built again when the figures have changed.
    inliner.document.settings.record_dependencies.add(str(newest()))
    rows = read(implementation)
    if text in rows:
        return [nodes.Text(short(rows[text]))], []
    message = inliner.reporter.error(
        f"{newest().name} has no row {text!r}.", line=lineno
    )
    return [inliner.problematic(rawtext, rawtext, message)], [message]


def find_worst(rows: Mapping[str, float]) -> str:
    """Return the row that gains least, without those that monitor."""
    return min(
        (name for name in rows if not name.endswith(MONITORED)), key=rows.__getitem__
    )


def label_rows(rows: Mapping[str, float]) -> dict[str, str]:
    """Return what the plot calls its rows: those of ``PLOTTED``, and the worst."""
    worst = find_worst(rows)
    return {worst: f"the worst row: {worst}"} | PLOTTED


def draw() -> str:
    """Return the plot."""
    rows = read()
    labels = label_rows(rows)
    ordered = sorted(labels, key=rows.__getitem__, reverse=True)
    height = HEIGHT * len(ordered) + 44
    python, django = releases()
    title = f"Times as fast as Django {django}, on Python {python}, with the extension"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
            f' role="img" aria-label="{title}">',
            "  <style>",
            "    text { fill: #7a7a7a; font: 14px sans-serif }",
            "    text.value { font-weight: bold }",
            "    .faster { fill: #2a9d5c }",
            "    .same { fill: #8a8a8a }",
            "    .slower { fill: #d1681f }",
            "    line { stroke: #8a8a8a }",
            "  </style>",
            f'  <text x="0" y="18">{title}</text>',
            *(
                line
                for place, name in enumerate(ordered)
                for line in _bar(labels[name], rows[name], 40 + HEIGHT * place)
            ),
            f'  <line x1="{LEFT}" y1="44" x2="{LEFT}" y2="{height}"/>',
            "</svg>",
            "",
        ]
    )


def _bar(label: str, ratio: float, top: int) -> Iterator[str]:
    # At least a hair's breadth, so that there's something to be seen at 1.
    end = LEFT + UNIT * math.log10(ratio)
    left, right = sorted([LEFT, end])
    kind = "slower" if ratio < 0.95 else "same" if ratio < 1.05 else "faster"
    yield f'  <text x="{LEFT + 6}" y="{top + 16}">{escape(label)}</text>'
    yield (
        f'  <rect class="{kind}" x="{left:.1f}" y="{top + 22}"'
        f' width="{max(right - left, 2):.1f}" height="12"/>'
    )
    yield (
        f'  <text class="value" x="{max(right, LEFT) + 6:.1f}" y="{top + 33}">'
        f"{short(ratio)}</text>"
    )


def setup(app):
    for suffix, implementation in [("", "c"), ("-python", "python")]:
        app.add_role(f"gain{suffix}", partial(_role, implementation))
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    PLOT.write_text(draw(), encoding="utf-8")
