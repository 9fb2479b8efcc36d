"""What signals cost in a project: its receivers, and what altdispatch saves there.

The work is done in a process of its own: first with monitoring, then on stock Django
and swapped by turns, without it. So both sides meet the same machine, and each pair of
times is one measurement of the difference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from heapq import heappush, heapreplace
from math import ceil, sqrt
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any, NamedTuple

import django
from django.core.management import execute_from_command_line

from . import install, monitoring, uninstall
from .handlers import ASGI, WSGI, Failed, logged_in, make_environ
from .rows import name_signal
from .timeline import MOST_CALLS, order

# Requests before those that count.
WARM_UP = 3
# How many requests are made on one side before it's the other's turn.
TURN = 10


@dataclass(frozen=True)
class Work:
    """What is to be profiled: a management command, or requests.

    Attributes:

        command
            The name of the command and its arguments; empty for requests.
        url
            A path, with its query if it has one.
        requests
            How many are made on each side.
        method, data, headers, user
            What the requests have: a method, a body, headers, and the name of a user
            who is logged in, if any.
        is_asgi
            Whether they are made to the ASGI handler.
    """

    command: list[str] = field(default_factory=list)
    url: str = ""
    requests: int = 1
    method: str = "GET"
    data: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    user: str = ""
    is_asgi: bool = False

    def __str__(self) -> str:
        return " ".join(self.command) if self.command else f"{self.method} {self.url}"

    @contextmanager
    def prepared(self) -> Iterator[Callable[[], int | None]]:
        """Give what does it once, and returns the status of an answer.

        It raises ``Failed`` if the answer or the command's exit status is an error.
        """
        if self.command:
            yield self._run_command
            return
        with logged_in(self.user) as cookies:
            environ = make_environ(
                self.method, self.url, self.data, self.headers, cookies
            )
            handler = ASGI(environ) if self.is_asgi else WSGI(environ)

            def request() -> int:
                status = handler.request()
                if status >= 400:
                    raise Failed(f"The answer to {self} was {status}.")
                return status

            try:
                for _ in range(WARM_UP):
                    request()
                yield request
            finally:
                handler.close()

    def _run_command(self) -> None:
        try:
            execute_from_command_line(["manage.py", *self.command])
        except SystemExit as error:
            if error.code:
                raise Failed(f"{self} ended with {error.code}.") from error


@dataclass(frozen=True)
class Profile:
    """What ``profile`` has measured.

    Attributes:

        work
            What was done, in words.
        times
            How often it was done on each side, and with monitoring.
        stock, swapped
            How many seconds each run took with Django and with altdispatch. Runs of the
            same position were made one after the other.
        status
            That of the answers to requests; None for a command.
        signals
            What ``monitoring.snapshot()`` had, as dictionaries, and of each receiver
            the ``median`` and ``percentile_99``.
        calls
            How many calls of receivers one run of the work made.
        timeline
            The longest of these calls, sorted by start.

    .. versionadded:: 0.2
    """

    work: str
    times: int
    stock: list[float]
    swapped: list[float]
    status: int | None
    signals: list[dict[str, Any]]
    calls: int
    timeline: list[dict[str, Any]]

    def saved(self) -> tuple[float, float, float]:
        """Return the median of the seconds saved each time, and its bounds.

        The true median is between these with a probability of 95 %, if there are enough
        pairs.

        .. versionadded:: 0.2
        """
        pairs = zip(self.stock, self.swapped, strict=True)
        saved = sorted(stock - swapped for stock, swapped in pairs)
        least = max(ceil(len(saved) / 2 - sqrt(len(saved))) - 1, 0)
        return median(saved), saved[least], saved[-1 - least]


def profile(work: Work) -> Profile:
    """Do the work in another process, of the project in DJANGO_SETTINGS_MODULE.

    Raise ``Failed`` if the work does.
    """
    if getattr(sys, "frozen", False):
        # sys.executable is the program itself, which would be run again.
        raise Failed("A frozen program has no interpreter to profile the work in.")
    with tempfile.TemporaryDirectory() as folder:
        answer, output = Path(folder, "answer"), Path(folder, "output")
        with output.open("wb") as file:
            process = subprocess.run(
                [sys.executable, "-m", "altdispatch.profiling", answer],
                input=json.dumps(asdict(work)).encode(),
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        if process.returncode:
            said = output.read_text(errors="replace").strip()
            raise Failed(f"{work} failed:\n{said}")
        return Profile(**json.loads(answer.read_bytes()))


# In that process.


def main(answer: str) -> None:
    """Do what standard input says, and write what was found out into a file."""
    work = Work(**json.load(sys.stdin))
    django.setup()
    if not install():
        sys.exit("altdispatch does not know the dispatcher of this Django.")
    try:
        with work.prepared() as do:
            found = asdict(measure(work, do))
    except Failed as error:
        sys.exit(str(error))
    Path(answer).write_text(json.dumps(found))


def measure(work: Work, do: Callable[[], int | None]) -> Profile:
    """Do the work with monitoring, then on stock Django and swapped by turns."""
    calls = LongestCalls()
    monitoring.enable()
    monitoring.reset()
    with monitoring.subscribe(calls.add, slower_than=0):
        status = do()
    for _ in range(work.requests - 1):
        do()
    signals = [_sum_up(signal) for signal in monitoring.snapshot().signals]
    timeline = calls.describe()
    monitoring.disable()
    stock: list[float] = []
    swapped: list[float] = []
    for begin in range(0, work.requests, TURN):
        for swap, seconds in ((uninstall, stock), (install, swapped)):
            swap()
            if work.requests > 1:
                # The first one after a swap finds no method where it was.
                do()
            for _ in range(min(TURN, work.requests - begin)):
                seconds.append(_time(do))
    return Profile(
        str(work),
        work.requests,
        stock,
        swapped,
        status,
        signals,
        calls.count,
        timeline,
    )


class _Kept(NamedTuple):
    """What is kept of a call, sorted by duration."""

    duration: float
    # Differs, so that the signals of calls of the same duration are never compared.
    number: int
    start: float
    signal: Any
    receiver_name: str
    has_failed: bool


class LongestCalls:
    """Counts the calls of receivers, and keeps the longest for the timeline.

    A subscriber's time counts as that of the receiver around the call, so adding a call
    must be cheap. Senders, receivers and errors are not kept alive.
    """

    def __init__(self) -> None:
        self.count = 0
        # A heap: the shortest call comes first.
        self._kept: list[_Kept] = []
        self._lock = Lock()

    def add(self, call: monitoring.Call) -> None:
        """Count a call, and keep it if it's one of the longest. A subscriber."""
        # Dropped after the lock is released, as the signal may go with it.
        dropped = None
        with self._lock:
            self.count += 1
            if len(self._kept) < MOST_CALLS:
                heappush(self._kept, self._keep(call))
            elif call.duration > self._kept[0].duration:
                dropped = heapreplace(self._kept, self._keep(call))
        del dropped

    def _keep(self, call: monitoring.Call) -> _Kept:
        return _Kept(
            call.duration,
            self.count,
            call.start,
            call.signal,
            call.receiver_name,
            call.error is not None,
        )

    def describe(self) -> list[dict[str, Any]]:
        """Return the kept calls as plain values, sorted by start."""
        return [
            {
                "signal": name_signal(call.signal),
                "receiver": call.receiver_name,
                "start": call.start,
                "duration": call.duration,
                "has_failed": call.has_failed,
            }
            for call in sorted(self._kept, key=order)
        ]


def _sum_up(signal: monitoring.SignalStats) -> dict[str, Any]:
    receivers = [
        {
            **receiver.as_dict(),
            "median": receiver.quantile(0.5),
            "percentile_99": receiver.quantile(0.99),
        }
        for receiver in signal.receivers
    ]
    return {**signal.as_dict(), "receivers": receivers}


def _time(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1])
