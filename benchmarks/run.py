"""The runner: measures the variants by turns, and prints the table.

    python benchmarks/run.py                   everything: some minutes
    python benchmarks/run.py --quick           a few rows, roughly: half a minute
    python benchmarks/run.py --only "bound"    the rows with a name that matches
    python benchmarks/run.py --peers           beside other packages of this kind

The values are kept under build/bench/, in one pyperf file per variant. A full run also
writes its table to docs/results/.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import django
import pyperf

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # For a script, Python looks in the script's folder; the package is one above.
    sys.path.insert(0, str(ROOT))

from benchmarks import peers, plots  # noqa: E402
from benchmarks.processes import Worker  # noqa: E402
from benchmarks.report import Report, make_report  # noqa: E402
from benchmarks.rows import Row  # noqa: E402
from benchmarks.variants import VARIANTS  # noqa: E402

QUESTIONS = [
    import_module(f"benchmarks.{name}")
    for name in (
        "send",
        "send_one",
        "senders",
        "asynchronous",
        "connect",
        "changing",
        "hydrate",
        "save",
        "patched",
        "monitored",
        "request",
    )
]


#: What a run compares unless it is told what.
DISPATCHERS = ["stock", "c", "python"]
if find_spec("altdispatch._speedups") is None:
    DISPATCHERS.remove("c")


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    In each of the ``rounds``, each variant has a new process for each question. These
    take ``values`` values of each row by turns, each over as many passes as take
    ``min_time`` seconds, but no further one after ``budget`` seconds.
    Heavy rows are measured in the first ``heavy_rounds`` only.
    ``headlines`` limits a run for which no rows are asked to the few that say most.
    """

    rounds: int = 7
    heavy_rounds: int = 2
    values: int = 10
    min_time: float = 0.01
    budget: float = 0.5
    headlines: bool = False


FULL = Effort()
QUICK = Effort(rounds=3, values=9, min_time=0.002, budget=0.3, headlines=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    options = parse_arguments(arguments)
    effort = QUICK if options.quick else FULL
    if options.rounds:
        effort = replace(effort, rounds=options.rounds)
    variants = options.variants or (peers.VARIANTS if options.peers else DISPATCHERS)
    questions = [peers] if options.peers else QUESTIONS
    report = run(variants, options.only, effort, options.output, questions)
    print(report.text())
    table = options.table
    is_documented = not (table or options.quick or options.only)
    if is_documented:
        table = documented_table("peers" if options.peers else "bench")
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(report.rst(), encoding="utf-8")
    if is_documented:
        plots.draw(report, table)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description="Measure what signals cost, on stock Django and on altdispatch."
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few rows only, and rougher"
    )
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        default="",
        help="all rows whose name this regular expression is found in",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        help=f"what to compare with the first of them ({' '.join(DISPATCHERS)})",
    )
    parser.add_argument(
        "--peers", action="store_true", help="measure other packages beside them"
    )
    parser.add_argument(
        "--rounds", type=int, help=f"how many ({FULL.rounds}; quick: {QUICK.rounds})"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="a new folder for pyperf's files"
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="write the table there as reStructuredText (a run of everything: "
        f"{documented_table().relative_to(ROOT)})",
    )
    return parser.parse_args(arguments)


def documented_table(kind: str = "bench") -> Path:
    """Return where the documentation has the table of this Python and this Django."""
    python = "{}.{}".format(*sys.version_info)
    release = "{}.{}".format(*django.VERSION)
    return ROOT / "docs" / "results" / f"{kind}-{python}-django{release}.rst"


def run(
    variants: Sequence[str] = DISPATCHERS,
    only: str = "",
    effort: Effort = QUICK,
    folder: Path | None = None,
    questions: Sequence[ModuleType] = QUESTIONS,
) -> Report:
    """Measure the rows whose name matches ``only``, and return the report.

    The first variant is the one that the others are compared with. The values go to
    ``folder``, which is made. Raises ValueError if no row matches, or if the variants
    did not do the same; FileExistsError if there is such a folder already;
    CalledProcessError if a process failed, which has said why on stderr.
    """
    chosen = choose_rows(questions, only, effort.headlines)
    if folder is None:
        folder = ROOT / "build" / "bench" / f"{datetime.now():%Y-%m-%d-%H%M%S}"
    folder.mkdir(parents=True)
    files = {v: folder.resolve() / f"{v}.json" for v in variants}
    for number in range(1, effort.rounds + 1):
        for question, rows in chosen:
            names = [
                row.name
                for row in rows
                if number <= effort.heavy_rounds or not row.heavy
            ]
            if names:
                print(f"round {number}: {question.TITLE}", file=sys.stderr)
                run_round(question, names, files, effort, number)
    suites = {
        variant: pyperf.BenchmarkSuite.load(str(file))
        for variant, file in files.items()
    }
    return make_report(
        suites,
        {question.TITLE: [row.name for row in rows] for question, rows in chosen},
    )


def choose_rows(
    questions: Sequence[ModuleType], only: str, headlines: bool
) -> list[tuple[ModuleType, list[Row]]]:
    """Return the questions with those of their rows that are asked for."""

    def wanted(row: Row) -> bool:
        if only:
            return re.search(only, row.name) is not None
        return row.headline or not headlines

    chosen = [
        (question, [row for row in question.ROWS if wanted(row)])
        for question in questions
    ]
    chosen = [(question, rows) for question, rows in chosen if rows]
    if not chosen:
        raise ValueError(f"no row has a name that matches {only!r}")
    return chosen


def run_round(
    question: ModuleType,
    names: Sequence[str],
    files: Mapping[str, Path],
    effort: Effort,
    number: int,
) -> None:
    """Measure the rows of a question once: a process per variant, value by value."""
    options = [f"--min-time={effort.min_time}", f"--budget={effort.budget}"]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                Worker(
                    [variant, question.__name__, str(file), *names, *options], number
                )
            )
            for variant, file in files.items()
        ]
        for _ in names:
            for worker in workers:
                worker.turn("prepare")
            spent = 0.0
            for _ in range(effort.values):
                spent += max([worker.turn("value") for worker in workers])
                if spent > effort.budget:
                    break


if __name__ == "__main__":
    main()
