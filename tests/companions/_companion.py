"""Read the module of a companion without importing it, as Django isn't set up yet."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Companion:
    """A module's name, description and constants."""

    name: str
    checks: str
    packages: list[str]
    settings: dict[str, Any]


def names() -> list[str]:
    """Return the names of all companions."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def read(name: str) -> Companion:
    """Return the companion of that name."""
    module = ast.parse(FOLDER.joinpath(f"{name}.py").read_text(encoding="utf-8"))
    docstring = ast.get_docstring(module)
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in {"PACKAGES", "SETTINGS"}
    }
    assert docstring is not None, f"{name} doesn't say what it checks"
    return Companion(
        name, docstring.split("\n")[0], constants["PACKAGES"], constants["SETTINGS"]
    )
