"""Entries about what happened so far."""

ENTRIES = []


def write(*words):
    ENTRIES.append(" ".join(map(str, words)))
