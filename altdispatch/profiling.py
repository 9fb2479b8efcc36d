"""What dispatching costs in a project, on stock Django and swapped.

The work is done in processes of its own, one after the other. The first counts who
sends what to how many, and takes the time of the receivers. The others are left alone,
on stock Django and swapped by turns: they take the time of the whole, and then send as
was counted to receivers that do nothing, over and over, which gives the time of
dispatching without that of taking it.
"""

from __future__ import annotations

import json
import operator
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.dispatch import Signal
from django.test import Client

from . import install, uninstall
from .counting import Counts, Kind
from .naming import dotted, name_signals

# How often it's stock Django's turn, and then that of the swapped one, for requests: a
# machine may have less to do at one time than at another.
TURNS = 3
# Requests before those that count.
WARM_UP = 3
# The least of so many values is taken, each of sends for at least so many seconds.
VALUES = 5
SECONDS = 0.002


class Failed(Exception):
    """What was to be profiled did not succeed; says why, for people."""


@dataclass(frozen=True)
class Work:
    """What is to be profiled: a management command, or requests for a path.

    Attributes:

        command
            The name of the command and its arguments; empty for requests.
        url
            A path, with its query if it has one.
        requests
            How many are made for it.
    """

    command: list[str] = field(default_factory=list)
    url: str = ""
    requests: int = 1

    def __str__(self) -> str:
        return " ".join(self.command) if self.command else f"GET {self.url}"

    def parts(self) -> list[Work]:
        """Return what to do of it at each turn; a command is done at once."""
        if self.command:
            return [self]
        turns = min(TURNS, self.requests)
        return [
            replace(self, requests=(self.requests + turn) // turns)
            for turn in range(turns)
        ]

    def warm_up(self) -> int | None:
        """Have done what only the first of many requests does; return their status."""
        status = None
        if self.url:
            for _ in range(WARM_UP):
                _, status = self._request()
        return status

    def do(self) -> list[float]:
        """Do it in the project that is set up; return the seconds of each time.

        Raise ``Failed`` if the answer is an error, or the command's exit status is.
        """
        if self.url:
            return [self._request()[0] for _ in range(self.requests)]
        start = time.perf_counter()
        try:
            execute_from_command_line(["manage.py", *self.command])
        except SystemExit as error:
            if error.code:
                raise Failed(f"{self} ended with {error.code}.") from error
        return [time.perf_counter() - start]

    def _request(self) -> tuple[float, int]:
        """Return the seconds that it takes, and the status of the answer."""
        client = Client(SERVER_NAME=_server_name())
        start = time.perf_counter()
        response = client.get(self.url, secure=settings.SECURE_SSL_REDIRECT)
        response.getvalue()
        seconds = time.perf_counter() - start
        if response.status_code >= 400:
            raise Failed(f"The answer to {self} was {response.status_code}.")
        return seconds, response.status_code


def _server_name() -> str:
    """Return a name that the project takes requests for."""
    for host in settings.ALLOWED_HOSTS:
        if host != "*":
            return str(host).removeprefix(".")
    return "localhost"


@dataclass(frozen=True)
class SignalCosts:
    """What was done with one signal, each time that the work was done.

    Attributes:

        name
            That of the signal.
        sends, checks
            How often it was sent, and ``has_listeners()`` called.
        receivers
            How many receivers were called.
        in_receivers
            The seconds that these took, with all that they did.
        stock, swapped
            The seconds that dispatching takes.
    """

    name: str
    sends: float
    checks: float
    receivers: float
    in_receivers: float
    stock: float
    swapped: float


@dataclass(frozen=True)
class Profile:
    """What the work costs, each time that it is done.

    Attributes:

        stock, swapped
            The seconds of each time that the whole took.
        in_receivers
            The seconds that receivers took.
        signals
            What was done with each signal that was used, the costliest first.
        status
            That of the answers to requests; None for a command.
    """

    stock: list[float]
    swapped: list[float]
    in_receivers: float
    signals: list[SignalCosts]
    status: int | None

    def dispatching(self) -> tuple[float, float]:
        """Return the seconds that dispatching takes, on stock Django and swapped."""
        return (
            sum(signal.stock for signal in self.signals),
            sum(signal.swapped for signal in self.signals),
        )


def profile(work: Work, tell: Callable[[str], None]) -> Profile:
    """Do the work in other processes, of the project in DJANGO_SETTINGS_MODULE.

    ``tell`` is called with what is done next. Raise ``Failed`` if the work does.
    """
    if getattr(sys, "frozen", False):
        # sys.executable is the program itself, which would be run again.
        raise Failed("A frozen program has no interpreter to profile the work in.")
    tell(f"{work}: counting")
    counted = _run(work, "counted", [])
    kinds = [[kind for kind, _ in signal["kinds"]] for signal in counted["signals"]]
    stock, swapped = _by_turns(work, kinds, tell)
    signals = [
        _sum_up(*each, work.requests)
        for each in zip(
            counted["signals"], stock["costs"], swapped["costs"], strict=True
        )
    ]
    return Profile(
        stock["seconds"],
        swapped["seconds"],
        counted["in_receivers"] / work.requests,
        sorted(signals, key=lambda signal: signal.stock, reverse=True),
        counted["status"],
    )


def _by_turns(
    work: Work, kinds: list[list[Any]], tell: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what was found out on stock Django, and swapped."""
    stock, swapped = [], []
    parts = work.parts()
    for number, part in enumerate(parts, 1):
        turn = f", {number} of {len(parts)}" if len(parts) > 1 else ""
        tell(f"{work}: on stock Django{turn}")
        stock.append(_run(part, "stock", kinds))
        tell(f"{work}: swapped{turn}")
        swapped.append(_run(part, "swapped", kinds))
    return _merge(stock), _merge(swapped)


def _merge(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the seconds of all turns, and the least costs, by signal and kind."""
    by_signal = zip(*(turn["costs"] for turn in turns), strict=True)
    return {
        "seconds": [seconds for turn in turns for seconds in turn["seconds"]],
        "costs": [
            [min(costs) for costs in zip(*kinds, strict=True)] for kinds in by_signal
        ],
    }


def _sum_up(
    counted: dict[str, Any], stock: list[float], swapped: list[float], times: int
) -> SignalCosts:
    sends = checks = receivers = 0
    for kind, count in counted["kinds"]:
        if kind["method"] == "has_listeners":
            checks += count
        else:
            sends += count
            receivers += count * (kind["receivers"] + kind["async_receivers"])
    counts = [count for _, count in counted["kinds"]]
    return SignalCosts(
        counted["name"],
        sends / times,
        checks / times,
        receivers / times,
        counted["seconds"] / times,
        sum(map(operator.mul, counts, stock)) / times,
        sum(map(operator.mul, counts, swapped)) / times,
    )


def _run(work: Work, variant: str, kinds: list[list[Any]]) -> dict[str, Any]:
    """Do the work in a process of its own, and return what that has found out."""
    task = {"work": asdict(work), "variant": variant, "kinds": kinds}
    with tempfile.TemporaryDirectory() as folder:
        answer, output = Path(folder, "answer"), Path(folder, "output")
        with output.open("wb") as file:
            process = subprocess.run(
                [sys.executable, "-m", "altdispatch.profiling", answer],
                input=json.dumps(task).encode(),
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        if process.returncode:
            said = output.read_text(errors="replace").strip()
            raise Failed(f"{work} failed ({variant}):\n{said}")
        found: dict[str, Any] = json.loads(answer.read_bytes())
        return found


# In those processes.


def main(answer: str) -> None:
    """Do what standard input says, and write what was found out into a file."""
    task = json.load(sys.stdin)
    work = Work(**task["work"])
    django.setup()
    if task["variant"] != "swapped":
        uninstall()
    elif not install():
        sys.exit("altdispatch does not know the dispatcher of this Django.")
    try:
        status = work.warm_up()
        if task["variant"] == "counted":
            found = {"status": status, **count(work)}
        else:
            found = {"seconds": work.do()}
            found["costs"] = [
                [cost(Kind(**kind)) for kind in signal] for signal in task["kinds"]
            ]
    except Failed as error:
        sys.exit(str(error))
    Path(answer).write_text(json.dumps(found))


def count(work: Work) -> dict[str, Any]:
    """Do the work; return what was done with signals, and how long receivers took."""
    counts = Counts()
    with counts.counting():
        work.do()
    names = name_signals(counts.kinds)
    return {
        "in_receivers": counts.outer_seconds,
        "signals": [
            {
                "name": names.get(id(signal)) or dotted(signal),
                "kinds": [(asdict(kind), count) for kind, count in kinds.items()],
                "seconds": counts.seconds[signal],
            }
            for signal, kinds in counts.kinds.items()
        ],
    }


class Sender:
    """What the sends of ``cost()`` are from."""


class OtherSender:
    """Whose receivers those sends don't concern."""


def cost(kind: Kind) -> float:
    """Return the seconds that one such use takes, with receivers that do nothing."""
    signal = Signal(use_caching=kind.use_caching)
    receivers = _make_receivers(kind)
    for number, receiver in enumerate(receivers):
        concerned = number < kind.receivers + kind.async_receivers
        signal.connect(receiver, sender=Sender if concerned else OtherSender)
    names = "".join(f", name{number}=None" for number in range(kind.names))
    use = _USE_ASYNC if kind.method in ("asend", "asend_robust") else _USE
    found = {"use": getattr(signal, kind.method), "Sender": Sender}
    exec(use.format(names="" if kind.method == "has_listeners" else names), found)
    run: Any = found["run"]
    count = 1
    while run(count) < SECONDS:
        count *= 2
    return float(min(run(count) for _ in range(VALUES)) / count)


# As it is written in a program, with its names known beforehand.
_USE = """
from time import perf_counter

def run(count):
    start = perf_counter()
    for _ in range(count):
        use(Sender{names})
    return perf_counter() - start
"""
_USE_ASYNC = """
from asyncio import run as run_async
from time import perf_counter

async def use_often(count):
    start = perf_counter()
    for _ in range(count):
        await use(Sender{names})
    return perf_counter() - start

def run(count):
    return run_async(use_often(count))
"""


def _make_receivers(kind: Kind) -> list[Any]:
    """Return as many as a signal had: its sender's, asynchronous ones last, others.

    What those of others are doesn't matter, as they aren't called.
    """

    def make(number: int) -> Any:
        def receiver(**kwargs: Any) -> None:
            pass

        async def async_receiver(**kwargs: Any) -> None:
            pass

        return receiver if number < kind.receivers else async_receiver

    # More than are counted as connected, if a receiver has disconnected some.
    least = kind.receivers + kind.async_receivers
    return [make(number) for number in range(max(kind.connected, least))]


if __name__ == "__main__":
    main(sys.argv[1])
