"""The parts of a benchmark: rows of the table, and receivers for them to call."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count

Timer = Callable[[int], float]

# What the name of a row ends in where it is the plain loop that is measured.
PLAIN_LOOP = ", plain loop"


@dataclass(frozen=True)
class Body:
    """What a row runs, once it is set up.

    ``time`` and ``plain`` take a number of passes and return the seconds that these
    took; ``plain`` calls the same receivers in a plain loop, for the rows where that
    makes sense. ``answer`` says what one pass does, for the runner to compare between
    variants.
    """

    time: Timer
    answer: Callable[[], str]
    plain: Timer | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``prepare`` gives a context manager around the body: it sets up and clears away.
    ``calls`` is how many of the things that the name speaks of are in one pass.
    ``headline`` is for the few rows that make up a quick run. A ``heavy`` row takes
    stock seconds, and is measured in fewer rounds.
    """

    name: str
    prepare: Callable[[], AbstractContextManager[Body]]
    calls: int = 1
    headline: bool = False
    heavy: bool = False


def make_receiver(answer: object) -> Callable[..., object]:
    """Return a new receiver, which does nothing but return the answer."""

    def receiver(sender, **kwargs):
        return answer

    return receiver


def make_counting_receiver(counter: Iterator[int]) -> Callable[..., None]:
    """Return a new receiver, which takes one number from the counter."""

    def receiver(sender, **kwargs):
        next(counter)

    return receiver


def calls_counted(counter: "count[int]", work: Callable[[], object]) -> int:
    """Return how many numbers were taken from the counter while the work was done."""
    before = next(counter)
    work()
    return next(counter) - before - 1
