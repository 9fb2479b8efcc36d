from __future__ import annotations

import gc
import logging
import sys

import pytest
from django.test import override_settings

from altdispatch.releases import WATCHES_SENDERS

pytestmark = pytest.mark.monitored

CACHING = [False, True]


class Sender:
    """A sender that is hashable and weak referenceable, as models are."""


@pytest.fixture(params=CACHING, ids=["plain", "caching"])
def caching(request):
    return request.param


def test_receivers_are_called_in_the_order_of_connecting(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        calls = []
        receivers = [
            lambda number=number, **kwargs: calls.append(number) for number in range(8)
        ]
        # Connect some to one sender and some to all senders, in turn.
        for number, receiver in enumerate(receivers):
            signal.connect(receiver, sender=Sender if number % 3 else None)
        for _ in range(3):
            signal.send(Sender)
            signal.send(int)
        signal.disconnect(receivers[2], sender=Sender)
        signal.connect(receivers[2], sender=Sender)
        signal.send(Sender)
        return calls

    assert assert_same(scenario)[:11] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 3, 6]


def test_many_senders_whose_cache_changes(assert_same):
    """Compiled code remembers places in the cache, which a program can reorder."""

    def scenario(Signal):
        signal = Signal(use_caching=True)
        senders = [type(f"Sender{number}", (), {}) for number in range(40)]
        receivers = [lambda number=number, **kwargs: number for number in range(40)]
        for sender, receiver in zip(senders, receivers, strict=True):
            signal.connect(receiver, sender=sender)

        def send_to_all():
            # Often enough that each place is looked for again.
            for _ in range(15):
                seen.append(
                    [
                        (response, signal.has_listeners(sender))
                        for sender in senders
                        for _, response in signal.send(sender)
                    ]
                )

        seen: list[object] = []
        send_to_all()
        senders.reverse()
        signal.sender_receivers_cache.clear()
        send_to_all()
        for sender in senders[::3]:
            del signal.sender_receivers_cache[sender]
        send_to_all()
        if WATCHES_SENDERS:
            # New senders may get the addresses of the old ones.
            del senders[::2], sender
            gc.collect()
            senders += [type(f"New{number}", (), {}) for number in range(20)]
            send_to_all()
        cache = signal.sender_receivers_cache
        cache[senders[0]], cache[senders[1]] = cache[senders[1]], cache[senders[0]]
        send_to_all()
        return seen

    seen = assert_same(scenario)
    assert seen[0] == [(number, True) for number in range(40)]
    assert seen[-1] != seen[-16]


def test_argument_order(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        seen = []

        def first(**kwargs):
            seen.append((list(kwargs), kwargs["signal"] is signal, kwargs["sender"]))
            kwargs["zebra"] = "changed"

        def second(sender, ape, **kwargs):
            seen.append((sender, ape, kwargs["zebra"], list(kwargs)))

        signal.connect(first)
        signal.send(Sender, zebra=1, ape=2)
        signal.connect(second)
        for _ in range(2):
            signal.send(Sender, zebra=1, ape=2)
        return seen

    assert assert_same(scenario)[0] == (
        ["signal", "sender", "zebra", "ape"],
        True,
        Sender,
    )


@pytest.mark.parametrize("interned", [True, False])
@pytest.mark.parametrize("count", [13, 14, 15, 1000])
def test_many_arguments(assert_same, caching, count, interned):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        listener = Listener()
        signal.connect(listener.receive)
        # Names in source code are interned, names that are computed aren't.
        names = [f"argument_{number}" for number in range(count)]
        named = {
            sys.intern(name) if interned else name: number
            for number, name in enumerate(names)
        }
        for _ in range(2):
            signal.send(Sender, **named)
            signal.send(sender=Sender, **named)
            signal.send(**named, sender=Sender)
            signal.send_robust(Sender, **named)
        return [
            (list(seen), list(seen.values())[2:], seen["sender"])
            for seen in listener.seen
        ]

    seen = assert_same(scenario)
    assert [len(values) for _, values, _ in seen] == [count] * 8


class Listener:
    """An object whose method is a receiver that records its arguments."""

    def __init__(self):
        self.seen = []

    def receive(self, **kwargs):
        self.seen.append(kwargs)


@pytest.mark.parametrize("count", [15, 16, 17, 1000])
def test_many_receivers(assert_same, caching, count):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receivers = [lambda number=number, **_: number for number in range(count)]
        for number, receiver in enumerate(receivers):
            signal.connect(receiver, sender=Sender if number % 2 else None)
        sends = [signal.send, signal.send_robust] * 2
        return [[response for _, response in send(Sender)] for send in sends]

    assert assert_same(scenario) == [list(range(count))] * 4


def test_responses_are_a_new_list_of_pairs(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receivers = [lambda **kwargs: 1, lambda **kwargs: None]
        empty = signal.send(Sender), signal.send(Sender)
        for receiver in receivers:
            signal.connect(receiver)
        responses = signal.send(Sender), signal.send(Sender)
        return (
            empty[0] is empty[1],
            responses[0] is responses[1],
            [type(pairs) for pairs in (*empty, *responses)],
            [
                [(type(pair), receivers.index(pair[0]), pair[1]) for pair in pairs]
                for pairs in responses
            ],
        )

    assert assert_same(scenario)[3] == [[(tuple, 0, 1), (tuple, 1, None)]] * 2


# Look up receivers before calling the first.


def test_changes_during_a_send_affect_the_next_send(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        calls = []

        def late(**kwargs):
            calls.append("late")

        def early(**kwargs):
            calls.append("early")
            signal.connect(late)
            signal.disconnect(other)

        def other(**kwargs):
            calls.append("other")

        signal.connect(early)
        signal.connect(other)
        signal.send(Sender)
        calls.append("again")
        signal.send(Sender)
        return calls

    expected = ["early", "other", "again", "early", "late"]
    assert assert_same(scenario) == expected


def test_receiver_that_dies_during_a_send_is_still_called(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        calls = []

        def killer(**kwargs):
            calls.append("killer")
            victims.clear()

        victims = [lambda **kwargs: calls.append("victim")]
        signal.connect(killer)
        signal.connect(victims[0])
        signal.send(Sender)
        gc.collect()  # PyPy doesn't count references.
        signal.send(Sender)
        return calls, len(signal.receivers)

    assert assert_same(scenario)[0] == ["killer", "victim", "killer"]


def test_nested_and_recursive_sends(assert_same, caching):
    def scenario(Signal):
        signal, inner = Signal(use_caching=caching), Signal(use_caching=caching)

        def recurse(depth, **kwargs):
            return depth and signal.send(Sender, depth=depth - 1)[0][1]

        def nest(**kwargs):
            return [response for _, response in inner.send(Sender)]

        def innermost(**kwargs):
            return "innermost"

        signal.connect(recurse)
        deepest = signal.send(Sender, depth=30)
        signal.disconnect(recurse)
        signal.connect(nest)
        inner.connect(innermost)
        return deepest[0][1], signal.send(Sender)[0][1]

    assert assert_same(scenario) == (0, ["innermost"])


# Identify a connection.


@pytest.mark.parametrize(
    "uid", [None, "", 0, "uid", 5, ("a", 1), b"uid", 0.5, float("nan")]
)
def test_second_connect_with_the_same_key_adds_nothing(assert_same, caching, uid):
    def scenario(Signal):
        signal = Signal(use_caching=caching)

        def one(**kwargs):
            return 1

        def two(**kwargs):
            return 2

        counts = []
        for receiver in (one, two, one, two):
            for sender in (None, Sender, Sender):
                signal.connect(receiver, sender=sender, dispatch_uid=uid)
                counts.append(len(signal.receivers))
        responses = [response for _, response in signal.send(Sender)]
        disconnected = [signal.disconnect(two, Sender, uid) for _ in range(2)]
        return counts, responses, disconnected, len(signal.receivers)

    counts, responses, disconnected, left = assert_same(scenario)
    assert counts[-1] == (2 if uid else 4)
    assert disconnected == [True, False]
    assert left == counts[-1] - 1
    assert responses == ([1, 1] if uid else [1, 1, 2, 2])


def test_lookup_keys_consist_of_ids(assert_same):
    class Callable:
        def method(self, **kwargs):
            pass

    holder = Callable()

    def function(**kwargs):
        pass

    def scenario(Signal):
        signal = Signal()
        signal.connect(function)
        signal.connect(holder.method, sender=Sender)
        signal.connect(function, sender=holder.method, dispatch_uid="uid")
        return [entry[0] for entry in signal.receivers]

    method = id(holder), id(Callable.method)
    assert assert_same(scenario) == [
        (id(function), id(None)),
        (method, id(Sender)),
        ("uid", method),
    ]


class Uid:
    """Equal to a string but with another hash, so a dict doesn't find it."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return other == "uid"


@pytest.mark.parametrize(
    "uid", [Uid(), ["a list"], {"a": "dict"}], ids=["other", "list", "dict"]
)
def test_dispatch_uid_that_a_dict_does_not_find(assert_same, caching, uid):
    def scenario(Signal):
        signal = Signal(use_caching=caching)

        def receiver(**kwargs):
            return "answer"

        lengths = []
        for one in ("uid", uid, "uid", "other", uid):
            signal.connect(receiver, sender=Sender, dispatch_uid=one)
            lengths.append(len(signal.receivers))
        responses = [response for _, response in signal.send(Sender)]
        disconnected = [
            signal.disconnect(sender=Sender, dispatch_uid=one)
            for one in (uid, "uid", "other", uid)
        ]
        return lengths, responses, disconnected

    assert assert_same(scenario)[2].count(True) == len(assert_same(scenario)[1])


# Reject unusual receivers and senders as Django does.


class Slotted:
    __slots__ = ()

    def __call__(self, **kwargs):
        pass


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "receiver",
    [
        object(),
        "a string",
        lambda sender: None,
        lambda sender, **kwargs: None,
        Slotted(),
        print,
        None,
    ],
    ids=["object", "string", "no kwargs", "kwargs", "no weakref", "builtin", "None"],
)
def test_receivers_that_connect_rejects(assert_same, debug, receiver):
    def scenario(Signal):
        signal = Signal()
        with override_settings(DEBUG=debug):
            try:
                signal.connect(receiver)
            except Exception as error:
                return type(error), str(error), signal.receivers
        return [entry[1]() is receiver for entry in signal.receivers]

    assert assert_same(scenario)


def test_connect_before_settings_are_configured(run_python):
    # Both implementations in one process, without a project.
    output = run_python(
        """
        import django.dispatch, altdispatch
        from django.conf import settings

        def no_kwargs(sender): return "answer"
        for Signal in (django.dispatch.Signal, altdispatch.Signal):
            signal = Signal()
            signal.connect(no_kwargs)
            print(settings.configured, len(signal.receivers))
        """
    )
    assert output.split() == ["False", "1"] * 2


SENDERS = {
    "unhashable": [],
    "not weak referenceable": object(),
    "None": None,
    "number": 5,
    "string": "sender",
    "class": Sender,
    "method": Uid().__eq__,
}


@pytest.mark.parametrize("sender", SENDERS.values(), ids=SENDERS)
@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
def test_senders(assert_same, caching, sender, connected, how):
    def scenario(Signal):
        signal = Signal(use_caching=caching)

        def receiver(**kwargs):
            return "answer"

        def other(**kwargs):
            raise AssertionError("called for another sender")

        signal.connect(other, sender=Sender if sender is not Sender else int)
        if connected:
            signal.connect(receiver, sender=sender)
        results = []
        for _ in range(2):
            result = getattr(signal, how)(sender)
            results.append(
                result if how == "has_listeners" else [each for _, each in result]
            )
        return results, len(signal.sender_receivers_cache)

    assert assert_same(scenario)


@pytest.mark.parametrize(
    "sender", [[], object(), None, 5], ids=["list", "object", "None", "5"]
)
def test_senders_of_a_signal_without_receivers(assert_same, caching, sender):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        return signal.send(sender), signal.send_robust(sender)

    assert assert_same(scenario) == ([], [])


class Equal:
    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return isinstance(other, Equal)

    def __hash__(self):
        return 1


def test_senders_that_compare_equal_share_a_cache_entry(assert_same, caching):
    one, two = Equal("one"), Equal("two")

    def scenario(Signal):
        signal = Signal(use_caching=caching)

        def for_one(sender, **kwargs):
            return sender.name

        signal.connect(for_one, sender=one)
        return [
            [response for _, response in signal.send(sender)]
            for sender in (one, two, one, two)
        ]

    assert assert_same(scenario)[1] == (["two"] if caching else [])


@pytest.mark.parametrize("how", ["send", "send_robust", "has_listeners"])
def test_hashes_and_comparisons_of_a_sender(assert_same, caching, how):
    def scenario(Signal):
        operations = []

        class Counting(type):
            def __eq__(cls, other):
                operations.append("compared")
                return cls is other

            def __hash__(cls):
                operations.append("hashed")
                return 1

        class Sender(metaclass=Counting):
            pass

        signal = Signal(use_caching=caching)
        signal.connect(lambda **kwargs: None, weak=False)
        signal.connect(scenario)
        for _ in range(3):
            operations.append("send")
            try:
                getattr(signal, how)(Sender)
            except TypeError:
                operations.append("called")
        signal.disconnect(scenario)
        for sender in (Sender, Counting("Other", (), {})):
            for _ in range(3):
                operations.append("again")
                getattr(signal, how)(sender)
        return operations

    assert len(assert_same(scenario)) >= 9


class Exploding:
    def __hash__(self):
        raise ZeroDivisionError("unhashable")


def test_error_of_a_senders_hash_is_raised(assert_same, caching):
    sender = Exploding()

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        signal.connect(lambda **kwargs: None, weak=False)
        return signal.send(sender)

    assert assert_same(scenario)[0] is ZeroDivisionError


def test_signal_as_an_argument_fails_if_a_receiver_is_called(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        empty = signal.send(Sender, signal=1), signal.send_robust(Sender, signal=1)

        def receiver(**kwargs):
            raise AssertionError("not reached")

        errors = []
        for _ in range(2):
            for _ in range(2):
                signal.connect(receiver)
                with pytest.raises(TypeError) as error:
                    signal.send(Sender, signal=1)
                errors.append(str(error.value))
                errors += [
                    str(error) for _, error in signal.send_robust(Sender, signal=1)
                ]
            signal.connect(receiver, sender=Sender)
        return empty, errors

    empty, errors = assert_same(scenario)
    assert empty == ([], [])
    assert len(errors) == 10
    assert all("got multiple values for keyword argument 'signal'" in e for e in errors)


def test_generator_does_not_keep_its_callers_exception(assert_same, caching):
    """A generator restores its own handled exception, not that of its caller."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)

        def fails(**kwargs):
            raise ValueError("this")

        def send():
            while True:
                signal.send_robust(Sender)
                yield sys.exc_info()[0]

        signal.connect(fails)
        signal.send_robust(Sender)
        sending = send()
        try:
            raise KeyError
        except KeyError:
            seen = [next(sending), sys.exc_info()[0]]
        return [*seen, next(sending), sys.exc_info()[0]]

    assert assert_same(scenario) == [KeyError, KeyError, None, None]


def test_send_robust_logs_and_returns_an_exception(
    assert_same, implementation, caching, caplog
):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        caplog.clear()

        def fails(**kwargs):
            raise ValueError("this")

        def works(**kwargs):
            return "answer"

        signal.connect(fails)
        signal.connect(works)
        (_, error), response = signal.send_robust(Sender)
        (record,) = caplog.records
        traceback = error.__traceback__
        frames = []
        while traceback:
            frames.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        if implementation == "c" and frames[0] == "send_robust":
            del frames[0]  # The compiled method leaves no frame.
        return (
            repr(error),
            response[1],
            frames,
            record.name,
            record.levelno,
            record.getMessage(),
            record.msg,
            record.exc_info[1] is error,
            record.args[0],
        )

    outcome = assert_same(scenario)
    frames = ["fails"] if implementation == "c" else ["send_robust", "fails"]
    assert outcome[:3] == ("ValueError('this')", "answer", frames)
    assert outcome[3:5] == ("django.dispatch", logging.ERROR)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_send_robust_raises_other_base_exceptions(assert_same, caching, error):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        calls = []

        def fails(**kwargs):
            calls.append("fails")
            raise error("stop")

        signal.connect(fails)
        signal.connect(lambda **kwargs: calls.append("not reached"), weak=False)
        with pytest.raises(error):
            signal.send_robust(Sender)
        return calls

    assert assert_same(scenario) == ["fails"]


def test_send_robust_fails_for_a_receiver_without_a_name(assert_same):
    """The log message needs the receiver's ``__qualname__``."""

    class Fails:
        def __call__(self, **kwargs):
            raise ValueError("this")

    receiver = Fails()

    def scenario(Signal):
        signal = Signal()
        signal.connect(receiver)
        return signal.send_robust(Sender)

    assert assert_same(scenario)[0] is AttributeError


def test_send_raises_the_first_error(assert_same, caching):
    def scenario(Signal):
        signal = Signal(use_caching=caching)
        calls = []

        def fails(**kwargs):
            calls.append("fails")
            raise LookupError("first")

        signal.connect(lambda **kwargs: calls.append("before"), weak=False)
        signal.connect(fails)
        signal.connect(lambda **kwargs: calls.append("after"), weak=False)
        with pytest.raises(LookupError, match="first"):
            signal.send(Sender)
        return calls

    assert assert_same(scenario) == ["before", "fails"]
