"""From the values of a run to its table."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pyperf

from benchmarks.rows import PLAIN_LOOP

Suites = Mapping[str, pyperf.BenchmarkSuite]


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the baseline: above 1 is faster.

    A value is compared with the one that the other's process took next to it, because
    the speed of a machine changes while it is measured. The ratio of a round is the
    median of these; here are the median, the lowest and the highest of the rounds.
    """

    median: float
    low: float
    high: float

    def spread(self) -> float:
        """Return how far the furthest round is from the median, as a share of it."""
        return max(self.high - self.median, self.median - self.low) / self.median

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


@dataclass(frozen=True)
class Line:
    """A line of the table: the baseline's time, and the others' ratios to it."""

    name: str
    time: str
    ratios: dict[str, Ratio]
    plain: float | None
    #: The least that each variant, and the plain loop, took.
    seconds: dict[str, float]

    def cells(self) -> list[str]:
        """Return what is in the columns."""
        plain = "" if self.plain is None else number(self.plain)
        return [self.name, self.time, *map(str, self.ratios.values()), plain]

    def single_figures(self) -> list[str]:
        """Return the same with one figure a column, and a column for the spread."""
        name, time, *_, plain = self.cells()
        medians = [number(ratio.median) for ratio in self.ratios.values()]
        spread = max(ratio.spread() for ratio in self.ratios.values())
        return [name, time, *medians, f"{spread:.0%}", plain]


@dataclass(frozen=True)
class Report:
    """The table of a run, in groups that have a title."""

    variants: Sequence[str]
    groups: dict[str, list[Line]]
    environment: dict[str, str]

    def header(self) -> list[str]:
        """Return the names of the columns."""
        baseline, *others = self.variants
        return ["", baseline, *others, "plain loop"]

    def text(self) -> str:
        """Return the table for a terminal."""
        tables = {
            title: [self.header(), *(line.cells() for line in lines)]
            for title, lines in self.groups.items()
        }
        widths = [
            max(map(len, column))
            for column in zip(*itertools.chain(*tables.values()), strict=True)
        ]
        blocks = [[f"{name}: {value}" for name, value in self.environment.items()]]
        for title, table in tables.items():
            blocks.append([title, *(aligned(row, widths) for row in table)])
        rounds = "the median of the rounds, with the lowest and the highest in brackets"
        blocks.append(textwrap.wrap(self.legend(rounds), 88))
        return "\n\n".join("\n".join(block) for block in blocks)

    def rst(self) -> str:
        """Return the tables as reStructuredText, to be included in a page."""
        rounds = (
            "the median of the rounds. Spread is the largest deviation of a round from "
            "the median"
        )
        blocks = [
            [f"- {name}: {value}" for name, value in self.environment.items()],
            [self.legend(rounds)],
        ]
        *header, plain = self.header()
        for title, lines in self.groups.items():
            rows = [
                [*header, "spread", plain],
                *(line.single_figures() for line in lines),
            ]
            blocks.append(
                [f".. list-table:: {title}", "   :header-rows: 1", ""]
                + [item for row in rows for item in list_table_row(row)]
            )
        return "\n\n".join("\n".join(block) for block in blocks) + "\n"

    def legend(self, rounds: str) -> str:
        """Return how to read the table, with what it has of the rounds."""
        baseline = self.variants[0]
        return (
            f"How many times as fast as {baseline}: {rounds}. Above 1 is faster. "
            "Plain loop: the same for a loop that only calls the receivers. The "
            f"absolute times of {baseline} are approximate."
        )


def number(ratio: float) -> str:
    """Return a ratio with about three digits."""
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return f"{ratio:.{digits}f}"


def aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return the cells in columns, those after the first to the right."""
    cells = zip(row[1:], widths[1:], strict=True)
    return "  ".join(
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in cells)]
    ).rstrip()


def list_table_row(row: Sequence[str]) -> list[str]:
    """Return the lines of a row of a list-table."""
    bullets = ["   * -", *["     -"] * (len(row) - 1)]
    return [
        f"{bullet} {cell}".rstrip() for bullet, cell in zip(bullets, row, strict=True)
    ]


def make_report(suites: Suites, groups: Mapping[str, Sequence[str]]) -> Report:
    """Return the report of the suites, by variant, the baseline's being the first.

    ``groups`` has the names of the benchmarks under the titles. Raises ValueError if
    the variants didn't do the same.
    """
    return Report(
        variants=list(suites),
        groups={
            title: [make_line(suites, name) for name in names]
            for title, names in groups.items()
        },
        environment=describe(suites),
    )


def make_line(suites: Suites, name: str) -> Line:
    """Return the line for the benchmark of this name."""
    benchmarks = {
        variant: suite.get_benchmark(name) for variant, suite in suites.items()
    }
    check_answers(name, benchmarks)
    baseline, *others = benchmarks
    seconds = {
        variant: min(benchmark.get_values())
        for variant, benchmark in benchmarks.items()
    }
    plain = None
    if name + PLAIN_LOOP in suites[baseline].get_benchmark_names():
        loop = suites[baseline].get_benchmark(name + PLAIN_LOOP)
        plain = compare(benchmarks[baseline], loop).median
        seconds["plain loop"] = min(loop.get_values())
    return Line(
        name=name,
        time=benchmarks[baseline].format_value(seconds[baseline]),
        ratios={
            variant: compare(benchmarks[baseline], benchmarks[variant])
            for variant in others
        },
        plain=plain,
        seconds=seconds,
    )


def check_answers(name: str, benchmarks: Mapping[str, pyperf.Benchmark]) -> None:
    """Raise ValueError if the variants, or the rounds of one, did different things."""
    answers = {
        variant: {run.get_metadata()["answer"] for run in benchmark.get_runs()}
        for variant, benchmark in benchmarks.items()
    }
    if len(set().union(*answers.values())) != 1:
        raise ValueError(f"{name!r} did not do the same everywhere: {answers}")


def compare(baseline: pyperf.Benchmark, other: pyperf.Benchmark) -> Ratio:
    """Return how much faster the other is than the baseline."""
    rounds = [
        median(
            ours / theirs
            for ours, theirs in zip(one.values, another.values, strict=True)
        )
        for one, another in zip(baseline.get_runs(), other.get_runs(), strict=True)
    ]
    return Ratio(median(rounds), min(rounds), max(rounds))


def describe(suites: Suites) -> dict[str, str]:
    """Return what is to be known about the run and its machine.

    What pyperf can't find out on the system at hand is left out.
    """
    first = {variant: metadata(suite)[0] for variant, suite in suites.items()}
    facts = next(iter(first.values()))
    loads = [
        run["load_avg_1min"]
        for suite in suites.values()
        for run in metadata(suite)
        if "load_avg_1min" in run
    ]
    counts = sorted(
        {benchmark.get_nrun() for suite in suites.values() for benchmark in suite}
    )
    rounds = " or ".join(map(str, counts))
    lines = {variant: run["dispatcher"] for variant, run in first.items()}
    lines["Python"] = f"{facts['python_implementation']} {facts['python_version']}"
    lines["Django"] = facts["django_version"]
    lines["Date"] = facts["date"].split()[0]
    lines["Rounds"] = f"{rounds}, the variants by turns in processes of their own"
    lines["CPUs"] = f"{facts['cpu_count']} {facts.get('cpu_model_name', '')}".strip()
    if loads:
        lines["Load"] = f"{min(loads):.1f} to {max(loads):.1f} (average of a minute)"
    return lines


def metadata(suite: pyperf.BenchmarkSuite) -> list[dict[str, Any]]:
    """Return what is known about each run of each benchmark."""
    return [run.get_metadata() for benchmark in suite for run in benchmark.get_runs()]
