"""Helpers for the tests of hostile programs."""

from __future__ import annotations

import pytest

from ..implementations import COUNTS_REFERENCES

needs_counts = pytest.mark.skipif(
    not COUNTS_REFERENCES, reason="PyPy runs finalizers later"
)
CACHING = pytest.mark.parametrize("caching", [False, True], ids=["plain", "caching"])


class Sender:
    pass


def responses(signal, sender=Sender, how="send"):
    return [response for _, response in getattr(signal, how)(sender)]


class Receiver:
    def __call__(self, **kwargs):
        return "called"

    def method(self, **kwargs):
        return "method"
