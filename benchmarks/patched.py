"""What does it cost to send under a monitoring agent, which patches the look-up?

Such packages put a wrapper in the place of ``Signal._live_receivers``, before
altdispatch is installed or after it. The first rows have a wrapper that passes
everything through. The others have Sentry's SDK, which wraps all receivers
(``signals_spans=True``) or none, with no server to send to, in a transaction as of a
request. What the same saves and rows read cost without it is in ``save.py`` and
``hydrate.py``.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from django.dispatch import Signal

from benchmarks.hydrate import INSTANCES, reading
from benchmarks.rows import Body, Row
from benchmarks.save import saving
from benchmarks.send import asking, counted, sending
from benchmarks.send_one import one_keyword

TITLE = "Under a monitoring agent"

Preparation = Callable[[], AbstractContextManager[Body]]


def wrap() -> None:
    """Put a wrapper in the place of the look-up."""
    original = Signal._live_receivers

    def wrapper(self, sender):
        return original(self, sender)

    Signal._live_receivers = wrapper


def start_sentry(spans: bool) -> None:
    """Initialize Sentry's SDK, which patches Django once in a process."""
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
    """Do what ``prepare`` does with the class patched, before the swap or after it."""
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
    """Do what ``prepare`` does under Sentry's SDK, and time it in a transaction."""
    import sentry_sdk

    with patched(partial(start_sentry, spans), prepare) as body:

        def time(loops: int) -> float:
            with sentry_sdk.start_transaction(name="/"):
                return body.time(loops)

        yield Body(time=time, answer=body.answer, plain=body.plain)


def with_wrapper(when: str, is_first: bool) -> Iterator[Row]:
    """Give the rows for a wrapper that is first or last."""
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
        ("has_listeners, caching, 3 receivers", partial(asking, True, 3)),
        ("has_listeners, not caching, 3 receivers", partial(asking, False, 3)),
    ]:
        yield Row(
            f"{name}, patched {when}",
            partial(patched, wrap, prepare, is_first),
            headline=is_first and name == "send, caching, 3 receivers",
        )


def with_sentry(spans: bool) -> Iterator[Row]:
    """Give the rows for Sentry's SDK."""
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
