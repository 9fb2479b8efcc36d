"""The rows of the benchmarks, and receivers for them to call."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count

Timer = Callable[[int], float]

# The end of a row's name if the plain loop is measured.
PLAIN_LOOP = ", plain loop"


@dataclass(frozen=True)
class Body:
    """What a row runs, once it is set up.

    ``time`` and ``plain`` take a number of passes and return the seconds that they
    took. ``plain`` calls the same receivers in a plain loop; it is None if that makes
    no sense. ``answer`` describes the result of one pass, which the runner compares
    between variants.
    """

    time: Timer
    answer: Callable[[], str]
    plain: Timer | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    ``prepare`` returns a context manager that sets up the body and cleans up after it.
    ``calls`` is how often one pass does what the name says. The ``headline`` rows are
    those of a quick run. A ``heavy`` row takes stock Django seconds, and is measured in
    fewer rounds.
    """

    name: str
    prepare: Callable[[], AbstractContextManager[Body]]
    calls: int = 1
    headline: bool = False
    heavy: bool = False


def make_receiver(answer: object) -> Callable[..., object]:
    """Return a new receiver, which only returns ``answer``."""

    def receiver(sender, **kwargs):
        return answer

    return receiver


def make_counting_receiver(counter: Iterator[int]) -> Callable[..., None]:
    """Return a new receiver, which takes one number from the counter."""

    def receiver(sender, **kwargs):
        next(counter)

    return receiver


def calls_counted(counter: "count[int]", work: Callable[[], object]) -> int:
    """Do the work, and return how many numbers it takes from the counter."""
    before = next(counter)
    work()
    return next(counter) - before - 1
