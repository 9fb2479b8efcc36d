"""How fast is a send under a monitoring agent, which patches the look-up?

An agent replaces ``Signal._live_receivers`` with a wrapper, before or after altdispatch
is installed. In the first rows, the wrapper only calls the original. In the others it
is that of Sentry's SDK, which wraps all receivers (``signals_spans=True``) or none, in
a transaction as in a request, and without a server to report to. See ``save.py`` and
``hydrate.py`` for the same saves and reads without an agent.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from django.dispatch import Signal

from benchmarks.hydrate import INSTANCES, reading
from benchmarks.rows import Body, Row
from benchmarks.save import saving
from benchmarks.send import calling_has_listeners, counted, sending
from benchmarks.send_one import one_keyword

TITLE = "Under a monitoring agent"

Preparation = Callable[[], AbstractContextManager[Body]]


def wrap() -> None:
    """Replace the look-up with a wrapper that only calls the original."""
    original = Signal._live_receivers

    def wrapper(self, sender):
        return original(self, sender)

    Signal._live_receivers = wrapper


def start_sentry(spans: bool) -> None:
    """Initialize Sentry's SDK; restore its patch, which it makes once in a process."""
    import sentry_sdk
    from sentry_sdk.integrations.django import DjangoIntegration

    sentry_sdk.init(
        traces_sample_rate=1.0,
        integrations=[DjangoIntegration(signals_spans=spans)],
        auto_enabling_integrations=False,
    )
    if not hasattr(start_sentry, "patch"):
        start_sentry.patch = Signal._live_receivers
    Signal._live_receivers = start_sentry.patch


@contextmanager
def patched(
    patch: Callable[[], None], prepare: Preparation, is_first: bool = True
) -> Iterator[Body]:
    """Prepare a row with the class patched before the swap, or else after it."""
    import altdispatch

    is_swapped = altdispatch.is_installed()
    if is_first:
        altdispatch.uninstall()
    original = Signal._live_receivers
    patch()
    if is_swapped:
        altdispatch.install()
    try:
        with prepare() as body:
            yield body
    finally:
        if is_first:
            altdispatch.uninstall()
        Signal._live_receivers = original
        if is_swapped:
            altdispatch.install()


@contextmanager
def under_sentry(spans: bool, prepare: Preparation) -> Iterator[Body]:
    """Prepare a row under Sentry's SDK, and time it in a transaction."""
    import sentry_sdk

    with patched(partial(start_sentry, spans), prepare) as body:

        def time(loops: int) -> float:
            with sentry_sdk.start_transaction(name="/"):
                return body.time(loops)

        yield Body(time=time, answer=body.answer, plain=body.plain)


def with_wrapper(when: str, is_first: bool) -> Iterator[Row]:
    """Yield the rows with a wrapper that patches before or after the swap."""
    for name, prepare in [
        *(
            (
                f"send, caching, {counted(count, 'receiver')}",
                partial(sending, True, count),
            )
            for count in (0, 1, 3)
        ),
        ("send(instance), caching, 3 receivers", partial(one_keyword, True, 3)),
        ("send, not caching, 3 receivers", partial(sending, False, 3)),
        (
            "has_listeners, caching, 3 receivers",
            partial(calling_has_listeners, True, 3),
        ),
        (
            "has_listeners, not caching, 3 receivers",
            partial(calling_has_listeners, False, 3),
        ),
    ]:
        yield Row(
            f"{name}, patched {when}",
            partial(patched, wrap, prepare, is_first),
            headline=is_first and name == "send, caching, 3 receivers",
        )


def with_sentry(spans: bool) -> Iterator[Row]:
    """Yield the rows with Sentry's SDK."""
    for name, prepare, calls in [
        ("send, caching, 3 receivers", partial(sending, True, 3), 1),
        ("send, not caching, 3 receivers", partial(sending, False, 3), 1),
        ("save, 3 receivers before and 3 after", saving, 1),
        ("read an instance, no receiver", partial(reading, None), INSTANCES),
        (
            "read an instance, 1 receiver on this model",
            partial(reading, "shop.Book"),
            INSTANCES,
        ),
    ]:
        yield Row(
            f"{name}, Sentry, signals_spans={spans}",
            partial(under_sentry, spans, prepare),
            calls=calls,
        )


ROWS = [
    *with_wrapper("before", True),
    *with_wrapper("after", False),
    *with_sentry(False),
    *with_sentry(True),
]
