"""A profile as a page of HTML, with everything in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .profile_report import (
    format_time,
    give_title,
    give_verdict,
    list_receivers,
    list_sends,
    name_unit,
)
from .profiling import Profile
from .timeline import find_depths

_STYLE = """
:root { color-scheme: light dark; --bar: #2f6f9f; --failed: #b3261e; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --bar: #6fb1e0; --failed: #f2b8b5; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto;
  padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
th, td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere;
  white-space: normal; }
.wide { overflow-x: auto; }
.bar { height: .4rem; background: var(--bar); border-radius: .2rem; }
.call { position: absolute; height: 1.1rem; min-width: 2px; background: var(--bar);
  border-radius: .15rem; }
.failed { background: var(--failed); }
.timeline { position: relative; border-left: 1px solid var(--line);
  border-right: 1px solid var(--line); }
"""

#: How high a line of the timeline is, in rem.
_LINE = 1.4


def make_page(found: Profile) -> str:
    """Return the page."""
    title, *remarks = give_title(found).splitlines()
    each = name_unit(found)
    paragraphs = "".join(
        f"<p>{escape(text)}</p>" for text in [*remarks, give_verdict(found)]
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{paragraphs}
<h2>Receivers, per {each}</h2>
<div class="wide">{_make_table(list_receivers(found), _find_shares(found))}</div>
<h2>Timeline of one {each}</h2>
{_make_timeline(found)}
<h2>Signals, per {each}</h2>
<div class="wide">{_make_table(list_sends(found), [])}</div>
</body>
</html>
"""


def _find_shares(found: Profile) -> list[float]:
    """Return the own times of receivers as shares of the longest, that first."""
    own = [each["own"] for signal in found.signals for each in signal["receivers"]]
    return [each / (max(own) or 1) for each in sorted(own, reverse=True)]


def _make_table(rows: Sequence[Sequence[str]], shares: Sequence[float]) -> str:
    head, *others = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    for number, row in enumerate(others):
        cells = [escape(cell) for cell in row]
        if shares:
            cells[0] += f'<div class="bar" style="width: {shares[number]:.1%}"></div>'
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _make_timeline(found: Profile) -> str:
    """Return a box for each call, below the calls that run at its start."""
    calls = found.timeline
    if not calls:
        return "<p>No receiver was called.</p>"
    begin = calls[0]["start"]
    whole = max(call["start"] + call["duration"] for call in calls) - begin
    depths = [*find_depths((call["start"], call["duration"]) for call in calls)]
    boxes = []
    for call, depth in zip(calls, depths, strict=True):
        text = (
            f"{call['receiver']}, for {call['signal']}: "
            f"{format_time(call['duration'])}, {format_time(call['start'] - begin)} "
            "after the first"
        )
        boxes.append(
            f'<div class="call{" failed" if call["has_failed"] else ""}" '
            f'title="{escape(text)}" style="'
            f"left: {(call['start'] - begin) / (whole or 1):.4%}; "
            f"width: {call['duration'] / (whole or 1):.4%}; "
            f'top: {depth * _LINE}rem"></div>'
        )
    remark = ""
    if len(calls) < found.calls:
        remark = f" Only the longest {len(calls):,} of {found.calls:,} calls are shown."
    return (
        f"<p>{format_time(whole)} from the first receiver to the last; point at one "
        f"for its name.{remark}</p>"
        f'<div class="timeline" style="height: {(max(depths) + 1) * _LINE}rem">'
        f"{''.join(boxes)}</div>"
    )
