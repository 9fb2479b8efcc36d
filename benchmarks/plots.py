"""The plots of a report, beside its table."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import Report

# Of one hue each, in the order of the variants; what is compared with is grey.
COLOURS = ["#888888", "#0c4b33", "#44b78b", "#b35900", "#7a5195", "#2f6f9f", "#b03060"]


def draw(report: Report, table: Path) -> None:
    """Write the plots that the report has rows for, named after the table's file."""
    # Only where there's something to draw: it takes a second to import.
    import matplotlib

    matplotlib.use("svg")
    # The same report gives the same file.
    matplotlib.rcParams["svg.hashsalt"] = "altdispatch"
    draw_ratios(report, table.with_name(f"{table.stem}-ratios.svg"))
    costs = costs_by_receivers(report)
    if costs:
        draw_costs(costs, table.with_name(f"{table.stem}-costs.svg"))


def draw_ratios(report: Report, file: Path) -> None:
    """Draw how many times faster than the baseline each row is, as bars."""
    from matplotlib import pyplot

    lines = [line for lines in report.groups.values() for line in lines]
    baseline, *others = report.variants
    figure, axes = pyplot.subplots(
        figsize=(8, 1 + 0.11 * len(lines) * (1 + len(others)))
    )
    height = 0.8 / len(others)
    for number, variant in enumerate(others):
        axes.barh(
            [place + number * height for place in range(len(lines))],
            [line.ratios[variant].median for line in lines],
            height=height,
            label=variant,
            color=COLOURS[1 + number],
        )
    axes.axvline(1, color=COLOURS[0], linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(lines))])
    axes.set_yticklabels([line.name for line in lines], fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel(f"times faster than {baseline}")
    axes.legend()
    save(figure, file)


def costs_by_receivers(report: Report) -> dict[str, dict[int, float]]:
    """Return microseconds by number of receivers, by variant, of the caching sends."""
    costs: dict[str, dict[int, float]] = {}
    pattern = re.compile(r"(?:send, caching, )?(no|\d+) receivers?")
    for lines in report.groups.values():
        for line in lines:
            found = pattern.fullmatch(line.name)
            if found is None:
                continue
            number = 0 if found[1] == "no" else int(found[1])
            for variant, seconds in line.seconds.items():
                costs.setdefault(variant, {})[number] = seconds * 1e6
    return costs


def draw_costs(costs: Mapping[str, Mapping[int, float]], file: Path) -> None:
    """Draw what a send costs against the number of its receivers."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for colour, (variant, by_number) in zip(COLOURS, costs.items(), strict=False):
        numbers: Sequence[int] = sorted(by_number)
        axes.plot(
            [max(number, 0.3) for number in numbers],
            [by_number[number] for number in numbers],
            marker="o",
            label=variant,
            color=colour,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({number for by_number in costs.values() for number in by_number})
    axes.set_xticks([max(number, 0.3) for number in ticks], map(str, ticks))
    axes.set_xlabel("receivers")
    axes.set_ylabel("microseconds for a send")
    axes.legend()
    save(figure, file)


def save(figure, file: Path) -> None:
    """Write a figure, without the date, and close it."""
    from matplotlib import pyplot

    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
