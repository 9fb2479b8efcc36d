from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading

import asgiref.sync
import pytest

from altdispatch.releases import RELEASE

pytestmark = pytest.mark.monitored


class Sender:
    pass


variable = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def caching(request):
    return request.param


HOW = ["send", "asend", "send_robust", "asend_robust"]


@pytest.fixture(params=HOW)
def send(request):
    """Return a function that sends with one of the four methods."""

    def send(signal, sender=Sender, **named):
        result = getattr(signal, request.param)(sender, **named)
        if inspect.isawaitable(result):

            async def wait():
                return await result

            return asyncio.run(wait())
        return result

    send.how = request.param
    return send


async def asynchronous(**kwargs):
    await asyncio.sleep(0)
    return "asynchronous", list(kwargs)


def synchronous(**kwargs):
    return "synchronous", list(kwargs)


class Holder:
    async def method(self, **kwargs):
        return "method"

    async def __call__(self, **kwargs):
        return "callable"


holder = Holder()
marked = asgiref.sync.markcoroutinefunction(lambda **kwargs: asynchronous(**kwargs))
partial = functools.partial(asynchronous, extra=1)

RECEIVERS = [asynchronous, synchronous, holder.method, holder, marked, partial]


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_is_async_is_decided_by_connect(assert_same, receiver):
    def scenario(Signal):
        signal = Signal()
        signal.connect(receiver, weak=False)
        return signal.receivers[0][-1]

    assert assert_same(scenario) is (receiver not in (synchronous, holder))


def test_synchronous_responses_come_first(assert_same, caching, send):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        for receiver in (asynchronous, synchronous, holder.method, marked, partial):
            signal.connect(receiver, weak=False, sender=Sender)
        results = [send(signal, zebra=1, ape=2) for _ in range(2)]
        without_receivers = send(signal, int)
        responses = [[response for _, response in each] for each in results]
        return responses, without_receivers

    responses, without_receivers = assert_same(scenario)
    assert responses[0] == responses[1]
    assert responses[0][0] == ("synchronous", ["signal", "sender", "zebra", "ape"])
    assert len(responses[0]) == 5
    assert without_receivers == []


def test_only_asynchronous_or_only_synchronous(assert_same, caching, send):
    def scenario(Signal):
        results = []
        for receiver in (asynchronous, synchronous):
            signal = Signal(use_caching=caching)
            signal.connect(receiver)
            results.append([(each is receiver, got) for each, got in send(signal)])
        return results

    assert all(assert_same(scenario))


def test_errors(assert_same, caching, send, caplog):
    """One receiver fails, or two: Django 6.1 raises two errors as a group."""

    def scenario(Signal):
        outcomes = []
        for failing in (1, 2):
            caplog.clear()
            signal = Signal(use_caching=caching)
            receivers = []
            for number in range(failing):

                async def fails(number=number, **kwargs):
                    await asyncio.sleep(0)
                    raise ValueError(number)

                receivers.append(fails)
                signal.connect(fails)
            signal.connect(asynchronous)
            try:
                responses = [repr(response) for _, response in send(signal)]
            except Exception as error:
                responses = [
                    repr(error),
                    repr(error.__cause__),
                    type(error.__context__),
                    error.__suppress_context__,
                ]
            outcomes.append((responses, [r.getMessage() for r in caplog.records]))
        return outcomes

    (one, logged), (two, _) = assert_same(scenario)
    if send.how.endswith("robust"):
        assert one[0] == "ValueError(0)"
        assert len(logged) == 1
    else:
        assert one[0] == "ValueError(0)"
        group = RELEASE >= (6, 1)
        assert two[0].startswith("ExceptionGroup" if group else "ValueError(0)")


def test_error_of_a_synchronous_receiver(assert_same, caching, send):
    """It depends on the release whether asynchronous receivers are started then."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        calls = []

        def fails(**kwargs):
            calls.append("synchronous")
            raise ValueError("this")

        async def works(**kwargs):
            calls.append("asynchronous")

        signal.connect(fails)
        signal.connect(works)
        try:
            responses = [repr(response) for _, response in send(signal)]
        except ValueError as error:
            responses = repr(error)
        return responses, sorted(calls)

    _, calls = assert_same(scenario)
    if send.how == "asend":
        assert len(calls) == (1 if RELEASE >= (6, 1) else 2)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_receiver_that_can_not_be_called(assert_same, caching, send):
    async def without_kwargs(signal, sender):
        return "answer"

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(without_kwargs)
        return [repr(response) for _, response in send(signal, value=1)]

    assert "got an unexpected keyword argument" in str(assert_same(scenario))


@pytest.mark.parametrize("together", [1, 2])
def test_order_of_starting(assert_same, caching, send, together):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        calls = []
        receivers = []
        for number in range(together):

            async def receiver(number=number, **kwargs):
                calls.append((number, "starts"))
                await asyncio.sleep(0)
                calls.append((number, "goes on"))

            receivers.append(receiver)
            signal.connect(receiver)
        send(signal)
        return calls

    calls = assert_same(scenario)
    assert [number for number, _ in calls] == [*range(together)] * 2


def test_synchronous_and_asynchronous_receivers_at_the_same_time(assert_same):
    """Up to Django 6.0, a synchronous receiver can wait for an asynchronous one."""

    def scenario(Signal):
        signal = Signal()
        started = threading.Event()
        seen = []

        def waits(**kwargs):
            seen.append(started.wait(1 if RELEASE >= (6, 1) else 60))

        async def starts(**kwargs):
            started.set()

        signal.connect(waits)
        signal.connect(starts)
        asyncio.run(send_from_a_task(signal))
        return seen

    async def send_from_a_task(signal):
        await signal.asend(Sender)

    assert assert_same(scenario) == [RELEASE < (6, 1)]


def test_threads(assert_same, caching, send):
    """Receivers run on the same threads; the differences document the exception."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        threads = {}

        def sync_receiver(**kwargs):
            threads["sync"] = threading.current_thread() is threading.main_thread()

        async def async_receiver(**kwargs):
            if send.how.startswith("a"):
                threads["async"] = threading.current_thread() is threading.main_thread()

            def inside():
                threads["inside"] = (
                    threading.current_thread() is threading.main_thread()
                )

            await asgiref.sync.sync_to_async(inside)()

        signal.connect(sync_receiver)
        signal.connect(async_receiver)
        send(signal)
        return threads

    assert assert_same(scenario).keys() >= {"sync", "inside"}


def test_context_variables(assert_same, caching, send):
    """Django 6.1 copies back what receivers set, and later receivers see it."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        seen = []
        new = contextvars.ContextVar("new")

        async def first(**kwargs):
            seen.append(variable.get())
            variable.set("first")
            new.set("new")

        async def second(**kwargs):
            seen.append(variable.get())

        def third(**kwargs):
            seen.append(variable.get())
            variable.set("third")

        for receiver in (first, second, third):
            signal.connect(receiver)

        async def send_in_task():
            variable.set("sender")
            await getattr(signal, send.how)(Sender)
            return variable.get(), new.get("unset")

        def send_here():
            variable.set("sender")
            getattr(signal, send.how)(Sender)
            return variable.get(), new.get("unset")

        context = contextvars.copy_context()
        if send.how.startswith("a"):
            after = context.run(asyncio.run, send_in_task())
        else:
            after = context.run(send_here)
        return after, sorted(seen), variable.get()

    assert assert_same(scenario)[2] == "unset"


def test_context_variable_that_can_not_be_compared(assert_same):
    class Incomparable:
        def __ne__(self, other):
            raise LookupError("not comparable")

    def scenario(Signal):
        signal = Signal()
        value = Incomparable()

        async def receiver(**kwargs):
            variable.set(value)

        signal.connect(receiver)

        async def main():
            variable.set(Incomparable())
            await signal.asend(Sender)
            return variable.get() is value

        return asyncio.run(main())

    assert assert_same(scenario) is (RELEASE >= (6, 1))


@pytest.mark.parametrize("how", ["asend", "asend_robust"])
def test_cancelling(assert_same, how):
    def scenario(Signal):
        signal = Signal()
        calls = []

        async def waits(**kwargs):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                calls.append("cancelled")
                raise

        async def main():
            signal.connect(waits)
            task = asyncio.create_task(getattr(signal, how)(Sender))
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                calls.append("sender cancelled")
            return len(asyncio.all_tasks())

        return asyncio.run(main()), calls

    assert assert_same(scenario) == (1, ["cancelled", "sender cancelled"])


@pytest.mark.parametrize("how", ["asend", "asend_robust"])
def test_error_that_cancels_the_other_receivers(assert_same, how):
    """Each receiver makes its first step before the error cancels it."""

    def scenario(Signal):
        signal = Signal()
        calls = []

        async def fails(**kwargs):
            calls.append("fails")
            raise KeyError("this")

        async def other(**kwargs):
            calls.append("starts")
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                calls.append("cancelled")
                raise
            calls.append("ends")

        async def main():
            signal.connect(fails)
            signal.connect(other)
            try:
                calls.append(repr([a for _, a in await getattr(signal, how)(Sender)]))
            except KeyError as error:
                calls.append(repr(error))
            for _ in range(10):
                await asyncio.sleep(0)
            return calls

        return asyncio.run(main())

    assert assert_same(scenario)[:2] == ["fails", "starts"]


def test_send_inside_a_running_loop(assert_same, caching):
    """With asynchronous receivers, async_to_sync() raises an error."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(synchronous)

        async def main():
            results = [len(signal.send(Sender))]
            signal.connect(asynchronous)
            try:
                signal.send(Sender)
            except RuntimeError as error:
                results.append(str(error)[:40])
            return results

        return asyncio.run(main())

    assert assert_same(scenario)[0] == 1


def test_send_from_a_thread_of_a_running_loop(assert_same, caching):
    """The coroutines run on the running loop."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        loops = []

        async def receiver(**kwargs):
            loops.append(asyncio.get_running_loop())

        signal.connect(receiver)

        async def main():
            await asgiref.sync.sync_to_async(signal.send)(Sender)
            return [loop is asyncio.get_running_loop() for loop in loops]

        return asyncio.run(main())

    assert assert_same(scenario) == [True]
