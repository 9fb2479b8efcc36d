from __future__ import annotations

import inspect
import pydoc
import sys
from unittest import mock

import django.dispatch
import pytest

import altdispatch

METHODS = [
    "__init__",
    "connect",
    "disconnect",
    "has_listeners",
    "send",
    "send_robust",
    "asend",
    "asend_robust",
    "_live_receivers",
    "_clear_dead_receivers",
    "_log_robust_failure",
]

WRONG_CALLS = {
    "connect without a receiver": lambda signal: signal.connect(),
    "connect with too much": lambda signal: signal.connect(len, 1, 2, 3, 4),
    "connect with an unknown argument": lambda signal: signal.connect(len, senders=1),
    "disconnect with too much": lambda signal: signal.disconnect(1, 2, 3, 4),
    "has_listeners with too much": lambda signal: signal.has_listeners(1, 2),
    "send without a sender": lambda signal: signal.send(),
    "send with two senders": lambda signal: signal.send(1, sender=2),
    "send with a positional argument": lambda signal: signal.send(1, 2),
    "send with a second self": lambda signal: signal.send(1, self=2),
    "send_robust without a sender": lambda signal: signal.send_robust(),
    "asend without a sender": lambda signal: signal.asend(),
    "asend_robust with two senders": lambda signal: signal.asend_robust(1, sender=2),
}


def parameters(function):
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_the_same(assert_same, method):
    assert assert_same(lambda Signal: parameters(getattr(Signal, method)))


def test_parameters_of_the_class_are_the_same(assert_same):
    assert assert_same(lambda Signal: parameters(Signal))


def test_parameters_of_the_decorator_are_the_same():
    assert parameters(altdispatch.receiver) == parameters(django.dispatch.receiver)


@pytest.mark.parametrize("method", METHODS)
def test_coroutine_functions_are_the_same(assert_same, method):
    is_async = assert_same(
        lambda Signal: inspect.iscoroutinefunction(getattr(Signal, method))
    )
    assert is_async == (method in ("asend", "asend_robust"))


@pytest.mark.parametrize("call", WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_errors_of_wrong_calls_are_the_same(assert_same, call):
    kind, message = assert_same(lambda Signal: call(Signal()))
    assert kind is TypeError
    assert message.startswith("Signal.")


@pytest.mark.parametrize("method", METHODS)
def test_introspection_is_the_same_when_swapped(assert_same_swapped, method):
    def introspect():
        function = getattr(django.dispatch.Signal, method)
        return (
            str(inspect.signature(function)),
            function.__name__,
            function.__qualname__,
            function.__module__,
            function.__doc__,
            function.__annotations__,
            function.__defaults__,
            function.__kwdefaults__,
            vars(function),
            repr(function)[: len(f"<function Signal.{method} at")],
            inspect.isfunction(function),
            # On 3.11, the type of a compiled method differs: see
            # tests/test_differences.py.
            type(function) if sys.version_info >= (3, 12) else None,
        )

    assert assert_same_swapped(introspect)[1] == method


def test_help_is_the_same_when_swapped(assert_same_swapped):
    text = assert_same_swapped(
        lambda: pydoc.render_doc(django.dispatch.Signal, renderer=pydoc.plaintext)
    )
    assert "send_robust" in text


def test_names_in_the_class_are_the_same_when_swapped(assert_same_swapped):
    names = assert_same_swapped(lambda: list(vars(django.dispatch.Signal)))
    assert {*METHODS} <= {*names}


def test_autospec_is_the_same_when_swapped(assert_same_swapped):
    def use_autospec():
        signal = mock.create_autospec(django.dispatch.Signal, instance=True)
        signal.send.return_value = [("receiver", 1)]
        responses = signal.send(sender=1, value=2)
        signal.send.assert_called_once_with(1, value=2)
        with pytest.raises(TypeError) as error:
            signal.connect()
        return responses, str(error.value), inspect.iscoroutinefunction(signal.asend)

    assert assert_same_swapped(use_autospec)[2] is True


@pytest.mark.parametrize("decorator", [altdispatch.receiver, django.dispatch.receiver])
@pytest.mark.parametrize("kind", [list, tuple, None])
def test_receiver_connects_and_returns_the_function(Signal, decorator, kind):
    signals = [Signal(), Signal()]

    def function(**kwargs):
        return "answer"

    target = kind(signals) if kind else signals[0]
    assert decorator(target, sender=int, dispatch_uid="uid")(function) is function
    responses = [signal.send(int) for signal in signals]
    assert responses == [
        [(function, "answer")],
        [(function, "answer")] if kind else [],
    ]
    assert [signal.send(str) for signal in signals] == [[], []]


def test_errors_of_the_decorator_are_the_same(Signal):
    for decorator in (django.dispatch.receiver, altdispatch.receiver):
        with pytest.raises(TypeError, match="unexpected keyword argument 'senders'"):
            decorator(Signal(), senders=1)(len)
        with pytest.raises(AttributeError, match=r"'NoneType' .* 'connect'"):
            decorator(None)(len)
