from __future__ import annotations

import sys
import warnings

import django.dispatch
import pytest
from django.core.signals import setting_changed
from django.test import override_settings


class Sender:
    pass


@pytest.fixture(params=[False, True], ids=["plain", "caching"])
def caching(request):
    return request.param


def frames_up_to(name):
    frame = sys._getframe(1)
    names = []
    while frame.f_code.co_name != name:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("how", ["send", "send_robust"])
def test_one_frame_between_sender_and_receiver(
    assert_same, implementation, caching, how, count
):
    """A compiled method may have no frame; this is the one difference allowed."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        receivers = [
            lambda number=number, **kwargs: frames_up_to("scenario")
            for number in range(count)
        ]
        for receiver in receivers:
            signal.connect(receiver)
        seen = []
        for _ in range(3):
            answers = getattr(signal, how)(Sender)
            seen.append([response for _, response in answers])
        if implementation == "c":
            return [[set(names) - {how} for names in each] for each in seen]
        return seen

    expected = [{"<lambda>"}] if implementation == "c" else [["<lambda>", how]]
    assert assert_same(scenario)[0] == expected * count


@pytest.mark.parametrize("stacklevel", [1, 2, 3])
def test_warnings_name_the_same_line(assert_same, implementation, caching, stacklevel):
    """A compiled send has no frame, so one level less leads to the same line."""

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        is_compiled = implementation == "c" and Signal is not django.dispatch.Signal
        has_frame = not is_compiled or stacklevel < 2

        def warns(**kwargs):
            warnings.warn("careful", stacklevel=stacklevel - (not has_frame))

        signal.connect(warns)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            signal.send(Sender)
            signal.send(Sender)
        is_here = caught[-1].filename == __file__
        return is_here and (has_frame or stacklevel != 2)

    assert assert_same(scenario) == (stacklevel != 2)


def test_setting_changed_has_a_frame(assert_same_swapped):
    """Django's warning has a stacklevel that counts the frame."""

    def override():
        seen = []

        def receive(**kwargs):
            seen.append(frames_up_to("override"))

        setting_changed.connect(receive)
        try:
            with override_settings(SOME_SETTING=1):
                pass
        finally:
            setting_changed.disconnect(receive)
        return seen

    assert assert_same_swapped(override)[0][:2] == ["receive", "send"]


@pytest.mark.parametrize("how", ["send", "send_robust"])
@pytest.mark.parametrize("limit", [150, 1000, 5000])
def test_endless_recursion_ends_in_an_error(
    assert_same, implementation, caching, how, limit
):
    # Compiled methods also use the C stack, which has its own limit.
    deep = min(limit // 4, 400) if implementation == "c" else limit // 4

    def scenario(Signal):
        signal = Signal(use_caching=caching)
        depth = 0

        def recurse(**kwargs):
            nonlocal depth
            depth += 1
            signal.send(Sender)

        signal.connect(recurse)
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(limit)
        try:
            answers = getattr(signal, how)(Sender)
        except RecursionError as error:
            return "raised", str(error)[:32], depth > deep
        else:
            return "returned", [str(error)[:32] for _, error in answers]
        finally:
            sys.setrecursionlimit(before)

    outcome = assert_same(scenario)
    assert outcome[0] == ("raised" if how == "send" else "returned")
