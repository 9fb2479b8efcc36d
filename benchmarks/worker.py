"""Measure the rows of one benchmark module with one variant, in a process.

The runner starts a worker for each variant and lets them take turns, so that what slows
the machine down for a while affects all of them. A turn begins when the worker reads a
line, and ends when it writes one, with the seconds that it has measured. On
``prepare``, it sets up the next row and warms it up. On ``value``, it measures one
value of the row. At the end of its input, it adds the values to a pyperf file.
"""

import argparse
import gc
import random
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module

import django
import pyperf

from benchmarks import shop
from benchmarks.rows import PLAIN_LOOP, Row, Timer
from benchmarks.variants import VARIANTS


class Measured:
    """A timer, and the values that were measured with it.

    To warm up, the number of passes is doubled until they take ``min_time`` seconds. If
    they then take more than ``budget`` seconds, this is the first value, as some rows
    take stock Django seconds.
    """

    def __init__(self, name: str, time: Timer, min_time: float, budget: float) -> None:
        self.name = name
        self.time = time
        self.loops = 1
        self.values: list[float] = []
        self.warmups: list[tuple[int, float]] = []
        while (seconds := self.seconds()) < min_time:
            self.warmups.append((self.loops, seconds))
            self.loops *= 2
        self.first = seconds if seconds > budget else None

    def seconds(self) -> float:
        """Run the passes of one value, and return their seconds."""
        gc.collect()
        return self.time(self.loops)

    def take(self) -> float:
        """Measure a value, and return its seconds."""
        seconds = self.seconds() if self.first is None else self.first
        self.first = None
        self.values.append(seconds)
        return seconds

    def benchmark(self, calls: int, facts: dict[str, object]) -> pyperf.Benchmark:
        """Return the values as a pyperf benchmark, in seconds per call."""
        run = pyperf.Run(
            [seconds / (self.loops * calls) for seconds in self.values],
            warmups=[(loops, time / (loops * calls)) for loops, time in self.warmups],
            metadata={
                "name": self.name,
                "loops": self.loops,
                "inner_loops": calls,
                **facts,
            },
        )
        return pyperf.Benchmark([run])


def main() -> None:
    """Measure the rows of the command line, in turns."""
    options = parse_arguments()
    shop.set_up()
    facts = {
        "dispatcher": VARIANTS[options.variant](),
        "django_version": django.get_version(),
    }
    question = import_module(options.question)
    if hasattr(question, "use"):
        question.use(options.variant)
    rows = {row.name: row for row in question.ROWS}
    sys.stdin.readline()
    benchmarks = [
        benchmark
        for name in options.rows
        for benchmark in measure(rows[name], facts, options)
    ]
    pyperf.add_runs(options.file, pyperf.BenchmarkSuite(benchmarks))


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker")
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("question", help="the module that has the rows")
    parser.add_argument("file", help="the pyperf file to add to")
    parser.add_argument("rows", nargs="+", help="names of rows")
    parser.add_argument("--min-time", type=float, required=True)
    parser.add_argument("--budget", type=float, required=True)
    return parser.parse_args()


def measure(
    row: Row, facts: dict[str, object], options: argparse.Namespace
) -> Iterator[pyperf.Benchmark]:
    """Measure values of the row until the runner asks for another row; yield them."""
    # Memory layout alone shifts timings by a sixth, in the same way in all processes
    # that do the same. So each round starts with another layout.
    clutter = [bytes(random.randrange(500)) for _ in range(random.randrange(1000))]
    with row.prepare() as body:
        answer = body.answer()
        # Exclude the objects that exist so far from garbage collections while the clock
        # runs. Collecting itself stays on, as in a server.
        gc.collect()
        if hasattr(gc, "freeze"):  # Not on PyPy.
            gc.freeze()
        timers = {row.name: body.time}
        if body.plain is not None:
            timers[row.name + PLAIN_LOOP] = body.plain
        measured = [
            Measured(name, time, options.min_time, options.budget)
            for name, time in timers.items()
        ]
        end_turn(0.0)
        for _ in turns_for_values(sys.stdin):
            end_turn(sum(each.take() for each in measured))
    del clutter
    for each in measured:
        yield each.benchmark(row.calls, {"answer": answer, **facts})


def turns_for_values(lines: Iterable[str]) -> Iterator[None]:
    """Yield for each line that asks for a value, until one asks for something else."""
    for line in lines:
        if line != "value\n":
            return
        yield


def end_turn(seconds: float) -> None:
    """Write the seconds that were measured in this turn, for the runner."""
    print(seconds, flush=True)


if __name__ == "__main__":
    main()
