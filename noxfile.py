"""The matrix: the tests on every supported pair of Python and Django, and the rest.

Sessions have environments of their own; what is run in them, the Makefile says. Those
of a Python that isn't here are skipped.
"""

import os
import shlex

import nox

# The Makefile installs by pip, which uv would leave out.
nox.options.default_venv_backend = "virtualenv"

#: By Python, the releases of Django that support it and that altdispatch knows.
DJANGO = {
    "3.11": ["5.2"],
    "3.12": ["5.2", "6.0", "6.1"],
    "3.13": ["5.2", "6.0", "6.1"],
    "3.14": ["5.2", "6.0", "6.1"],
    "3.15": ["6.1"],
    "pypy3.11": ["5.2"],
}


@nox.session
@nox.parametrize(
    "python,django",
    [(python, django) for python, releases in DJANGO.items() for django in releases],
)
def tests(session: nox.Session, django: str) -> None:
    """Run the tests: all, or those that are named after --."""
    make(session, "test", f"DJANGO={django}", f"ARGS={shlex.join(session.posargs)}")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style."""
    make(session, "lint")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    make(session, "types")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation."""
    make(session, "docs")


@nox.session
def dist(session: nox.Session) -> None:
    """Build sdist and wheel, and test what they install."""
    make(session, "dist")


def make(session: nox.Session, target: str, *variables: str) -> None:
    """Make a target in the environment of the session."""
    environment = os.path.relpath(session.virtualenv.location)
    session.run("make", target, f"VENV={environment}", *variables, external=True)
