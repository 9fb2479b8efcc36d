"""What has happened so far, in words."""

ENTRIES = []


def write(*words):
    ENTRIES.append(" ".join(map(str, words)))
