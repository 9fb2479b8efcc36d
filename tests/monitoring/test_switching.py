"""Test turning monitoring on and off."""

import pytest
from django.test import override_settings

from altdispatch import monitoring

from .helpers import Sender, counted, plain, stats_of


def test_off(signal):
    monitoring.disable()
    signal.connect(plain)
    signal.send(Sender)
    assert not monitoring.is_enabled()
    assert monitoring.snapshot() == monitoring.Snapshot(())


def test_reset(signal):
    signal.connect(plain)
    for _ in range(2):
        signal.send(Sender)
        assert counted(signal) == (1, 0, {"plain": (1, 0)})
        monitoring.reset()
        assert monitoring.snapshot() == monitoring.Snapshot(())


@pytest.mark.parametrize("way", ["send", "send_robust"])
def test_turned_off_and_on_by_receivers(signal, way):
    signal.connect(lambda **kwargs: monitoring.disable(), weak=False)
    signal.connect(plain)
    signal.connect(lambda **kwargs: monitoring.enable(), weak=False)
    for _ in range(3):
        assert len(getattr(signal, way)(Sender)) == 3
    assert stats_of(signal).sends == 3


@pytest.mark.usefixtures("swapped")
def test_setting(monkeypatch):
    monitoring.disable()
    apps = ["altdispatch"]
    with (
        override_settings(ALTDISPATCH={"MONITORING": True}),
        override_settings(INSTALLED_APPS=apps),
    ):
        assert monitoring.is_enabled()
