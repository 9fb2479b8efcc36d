"""Start the worker processes of a round, and give them turns."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """A process that measures when it is its turn. Leaving the context ends it.

    ``arguments`` are those of benchmarks.worker, ``number`` is that of the round. If
    the system supports it, all workers of a round run on the same CPU: only one of them
    measures at a time, and another CPU may be slower because of other work.

    Leaving the context raises CalledProcessError if the process has failed, and a turn
    does if the process ends in it. The process writes the reason to stderr.
    """

    def __init__(self, arguments: Sequence[str], number: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *arguments],
            cwd=ROOT,
            # All workers of a round have the same hash seed, other rounds another.
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if hasattr(os, "sched_setaffinity"):
            cpus = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(self.process.pid, {cpus[number % len(cpus)]})

    def turn(self, request: str) -> float:
        """Send a request to the process; return the seconds that it has measured."""
        try:
            print(request, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise self.failure() from None
        if answer := self.process.stdout.readline():
            return float(answer)
        raise self.failure()

    def failure(self) -> subprocess.CalledProcessError:
        """Return the error with the exit code of the process."""
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
