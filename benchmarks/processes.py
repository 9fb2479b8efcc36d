"""The workers of a round, as the runner sees them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """A process that measures when it has the turn; leaving its context ends it.

    ``arguments`` are those of benchmarks.worker, ``number`` is that of the round. The
    workers of a round are put on one CPU where the system can: while one measures the
    others wait, and on another CPU there may be other work, and so another speed.

    Leaving raises CalledProcessError if the process failed, and so does a turn that it
    did not live to end; why, it has said on stderr.
    """

    def __init__(self, arguments: Sequence[str], number: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *arguments],
            cwd=ROOT,
            # Each round has another hash seed, and its workers the same one.
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if hasattr(os, "sched_setaffinity"):
            cpus = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(self.process.pid, {cpus[number % len(cpus)]})

    def turn(self, request: str) -> float:
        """Let it do what is requested, and return the seconds on its clock."""
        try:
            print(request, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise self.failure() from None
        if answer := self.process.stdout.readline():
            return float(answer)
        raise self.failure()

    def failure(self) -> subprocess.CalledProcessError:
        """Return the error that says how the process ended."""
        return subprocess.CalledProcessError(self.process.wait(), self.process.args)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.process.communicate()
        except BrokenPipeError:
            self.process.wait()
        if kind is None and self.process.returncode:
            raise self.failure()
