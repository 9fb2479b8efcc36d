"""The handled exception during and after ``send_robust()``."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import pytest

from ..implementations import COUNTS_REFERENCES
from .hostile import CACHING, Sender


def return_nothing(**kwargs):
    return "nothing"


@CACHING
def test_errors_with_unusual_attributes(assert_same, caching):
    def scenario(Signal):
        @dataclass(frozen=True)
        class Frozen(Exception):
            code: int

        class Shadowing(Exception):
            __traceback__ = __context__ = "an attribute of the class"

        def fails(code, **kwargs):
            raise (Frozen if code else Shadowing)(code)

        signal = Signal(use_caching=caching)
        signal.connect(fails)
        signal.connect(return_nothing)
        seen = []
        # On PyPy, the attribute of the class replaces that of the error.
        for code in (0, 1) if COUNTS_REFERENCES else (1,):
            [(_, error), (_, response)] = signal.send_robust(Sender, code=code)
            traceback = vars(BaseException)["__traceback__"].__get__(error)
            context = vars(BaseException)["__context__"].__get__(error)
            while traceback.tb_next is not None:
                traceback = traceback.tb_next
            seen.append((repr(error), response, context))
            seen.append(traceback.tb_frame.f_code.co_name)
        return seen

    logging.disable()
    try:
        assert assert_same(scenario)[1] == "fails"
    finally:
        logging.disable(logging.NOTSET)


@CACHING
def test_exception_handled_by_a_generator(assert_same, caching):
    def scenario(Signal):
        def fails(**kwargs):
            raise ValueError("receiver")

        signal = Signal(use_caching=caching)
        signal.connect(fails)

        def generator():
            try:
                yield
            except KeyError:
                signal.send_robust(Sender)
                seen.append(repr(sys.exception()))
                yield
                seen.append(repr(sys.exception()))
                raise

        seen = []
        running = generator()
        next(running)
        try:
            raise KeyError("e")
        except KeyError as error:
            running.throw(error)
        try:
            next(running)
        except BaseException as error:
            seen.append(repr(error))
        return seen

    assert assert_same(scenario) == ["KeyError('e')"] * 3


@CACHING
@pytest.mark.parametrize("handling", [False, True])
def test_error_while_it_is_logged(assert_same, caching, handling, caplog):
    def scenario(Signal):
        class Logging(Signal):
            def _log_robust_failure(self, receiver, err):
                seen.append((sys.exception() is err, repr(err.__context__)))

        def fails(**kwargs):
            raise ValueError("receiver")

        seen = []
        signal = Logging(use_caching=caching)
        signal.connect(fails)

        def send():
            [(_, error)] = signal.send_robust(Sender)
            seen.append(repr(error.__context__))
            traceback = error.__traceback__
            while traceback.tb_next is not None:
                traceback = traceback.tb_next
            seen.append(traceback.tb_frame.f_code.co_name)
            seen.append(repr(sys.exception()))

        if handling:
            try:
                raise KeyError("outer")
            except KeyError:
                send()
        else:
            send()
        return seen

    assert assert_same(scenario)[0][0] is True
