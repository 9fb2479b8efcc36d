"""Check that the changelog and the tags have the version of this commit.

``make release-check`` runs ``python tests/check_release.py``. The version is the one in
``altdispatch/__init__.py``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import altdispatch

ROOT = Path(__file__).resolve().parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
UNRELEASED = "Unreleased"


def contradictions(version: str, changelog: str, tags: Sequence[str]) -> Iterator[str]:
    """Yield a message for each contradiction to ``version``.

    A commit with ``tags`` is a release. Other commits may have unreleased changes.
    """
    headings = re.findall(r"^## \[(.+)\]", changelog, re.MULTILINE)
    newest = next(heading for heading in headings if heading != UNRELEASED)
    if newest != version:
        yield f"The changelog's newest release is {newest}, not {version}."
    if tags and UNRELEASED in headings:
        yield "This commit has a tag, and its changelog has unreleased changes."
    if tags and f"v{version}" not in tags:
        yield f"This commit's tag is {', '.join(tags)}, not v{version}."


def tags_of_commit() -> list[str]:
    """Return the version tags of the current commit."""
    command = ["git", "tag", "--points-at", "HEAD", "--list", "v*"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return output.stdout.decode().split()


def main() -> None:
    """Print the contradictions, or the version and its tags if there are none."""
    version, tags = altdispatch.__version__, tags_of_commit()
    found = [*contradictions(version, CHANGELOG.read_text("utf-8"), tags)]
    if found:
        sys.exit("\n".join(found))
    print(f"Version {version}, tags of this commit: {', '.join(tags) or 'none'}.")


if __name__ == "__main__":
    main()
