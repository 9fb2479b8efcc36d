"""How long does it take to call receivers, here and with other packages?

Each package is used as its documentation says. They give different guarantees, so
compare orders of magnitude only. If a package has senders, the receivers are connected
to one; if it refers to receivers weakly by default, it does so here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from pyperf import perf_counter

from benchmarks.rows import Body, Row, Timer, calls_counted

TITLE = "Beside other packages"
VARIANTS = ["stock", "c", "python", "blinker", "psygnal", "PyDispatcher", "pluggy"]

Emit = Callable[[], object]


class Book:
    """The sender; an instance is sent."""


def make_receivers(number: int, counter: "count[int]") -> list[Callable[..., object]]:
    """Return ``number`` receivers, each of which takes one number from the counter."""

    def make() -> Callable[..., object]:
        def receiver(sender, **kwargs):
            return next(counter)

        return receiver

    return [make() for _ in range(number)]


@contextmanager
def with_django(number: int, counter: "count[int]") -> Iterator[Emit]:
    """Connect receivers to a Django signal, which stock Django or altdispatch sends."""
    from django.dispatch import Signal

    signal = Signal(use_caching=True)
    receivers = make_receivers(number, counter)
    for receiver in receivers:
        signal.connect(receiver, sender=Book)
    book = Book()
    yield lambda: signal.send(sender=Book, instance=book, created=True)


@contextmanager
def with_blinker(number: int, counter: "count[int]") -> Iterator[Emit]:
    """Connect receivers to a blinker signal and a sender."""
    from blinker import Signal

    signal = Signal()
    receivers = make_receivers(number, counter)
    for receiver in receivers:
        signal.connect(receiver, sender=Book)
    book = Book()
    yield lambda: signal.send(Book, instance=book, created=True)


@contextmanager
def with_psygnal(number: int, counter: "count[int]") -> Iterator[Emit]:
    """Connect callbacks to the signal of an object, with positional arguments."""
    from psygnal import Signal

    class Library:
        saved = Signal(object, bool)

    def make() -> Callable[..., object]:
        def callback(instance, created):
            return next(counter)

        return callback

    library = Library()
    callbacks = [make() for _ in range(number)]
    for callback in callbacks:
        library.saved.connect(callback)
    book = Book()
    yield lambda: library.saved.emit(book, True)


@contextmanager
def with_pydispatcher(number: int, counter: "count[int]") -> Iterator[Emit]:
    """Connect receivers to a signal, which is a string, and a sender."""
    from pydispatch import dispatcher

    receivers = make_receivers(number, counter)
    for receiver in receivers:
        dispatcher.connect(receiver, signal="saved", sender=Book)
    book = Book()
    yield lambda: dispatcher.send("saved", Book, instance=book, created=True)
    for receiver in receivers:
        dispatcher.disconnect(receiver, signal="saved", sender=Book)


@contextmanager
def with_pluggy(number: int, counter: "count[int]") -> Iterator[Emit]:
    """Register plugins that implement a hook."""
    import pluggy

    specify = pluggy.HookspecMarker("library")
    implement = pluggy.HookimplMarker("library")

    class Library:
        @specify
        def saved(self, sender, instance, created):
            """Tell that an instance was saved."""

    class Plugin:
        @implement
        def saved(self, sender, instance, created):
            return next(counter)

    manager = pluggy.PluginManager("library")
    manager.add_hookspecs(Library)
    for _ in range(number):
        manager.register(Plugin())
    book = Book()
    yield lambda: manager.hook.saved(sender=Book, instance=book, created=True)


MAKERS = {
    "blinker": with_blinker,
    "psygnal": with_psygnal,
    "PyDispatcher": with_pydispatcher,
    "pluggy": with_pluggy,
}
make_emit = with_django


def use(variant: str) -> None:
    """Select the package that the rows measure."""
    global make_emit
    make_emit = MAKERS.get(variant, with_django)


def time_emit(emit: Emit) -> Timer:
    """Return a timer of ``emit``; the call of this function is timed too."""

    def time(loops: int) -> float:
        passes = range(loops)
        start = perf_counter()
        for _ in passes:
            emit()
        return perf_counter() - start

    return time


@contextmanager
def emitting(number: int) -> Iterator[Body]:
    """Call this number of receivers."""
    counter = count()
    receivers = make_receivers(number, counter)
    book = Book()

    def call_all() -> object:
        return [
            receiver(sender=Book, instance=book, created=True) for receiver in receivers
        ]

    with make_emit(number, counter) as emit:
        yield Body(
            time=time_emit(emit),
            answer=lambda: f"{calls_counted(counter, emit)} called",
            plain=time_emit(call_all) if number else None,
        )


ROWS = [
    Row(
        f"{number or 'no'} receiver{'' if number == 1 else 's'}",
        partial(emitting, number),
        headline=number == 3,
    )
    for number in (0, 1, 3, 10, 100)
]
