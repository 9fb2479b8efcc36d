"""Test programs frozen by PyInstaller, and applications of uWSGI.

``make deployment`` installs both. The tests of a package that isn't installed are
skipped.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import altdispatch
from altdispatch._pyinstaller import get_hook_dirs

from .conftest import ROOT
from .implementations import IMPLEMENTATIONS

# The program imports altdispatch itself, as programs do that use its helpers.
PROGRAM = """
import sys

import django
import django.template.backends.django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.template.loader import render_to_string

import altdispatch.utils

settings.configure(
    INSTALLED_APPS=["altdispatch"],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
        }
    ],
)
if sys.argv[1:] == ["render"]:
    django.setup()
    print(render_to_string("altdispatch/receivers_panel.html", {"calls": []}))
else:
    execute_from_command_line(sys.argv)
"""
# Each request sends one of Django's signals.
APPLICATION = """
import json

import altdispatch
from django.core.signals import request_started

altdispatch.install()


def receiver(**kwargs):
    return "called"


request_started.connect(receiver)


def application(environ, start_response):
    start_response("200 OK", [])
    (answer,) = [response for _, response in request_started.send(None) if response]
    status = altdispatch.status()
    return [json.dumps([answer, status.implementation, status.reason]).encode()]
"""

with_pyinstaller = pytest.mark.skipif(
    find_spec("PyInstaller") is None, reason="PyInstaller isn't installed"
)


@with_pyinstaller
def test_files_that_the_hook_collects():
    (hooks,) = get_hook_dirs()
    hook = runpy.run_path(str(Path(hooks, "hook-altdispatch.py")))
    files = {Path(folder, Path(file).name) for file, folder in hook["datas"]}
    assert files == {
        Path("django/dispatch/dispatcher.py"),
        Path("altdispatch/templates/altdispatch/receivers_panel.html"),
    }


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program frozen by PyInstaller, which finds altdispatch's hook."""
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "program.py").write_text(PROGRAM)
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "program.py"),
            # PyInstaller doesn't find editable installations.
            *("--paths", Path(altdispatch.__file__).parent.parent),
        ],
        cwd=folder,
        # Ignore deprecation warnings about PyInstaller's own code.
        env={**os.environ, "PYTHONWARNINGS": "", "DJANGO_SETTINGS_MODULE": ""},
        check=True,
        timeout=600,
    )
    return folder / "dist" / "program" / "program"


@with_pyinstaller
def test_frozen_program(frozen, implementation):
    def run(*arguments):
        return subprocess.run(
            [frozen, *arguments], capture_output=True, text=True, timeout=120
        )

    status = json.loads(run("altdispatch", "status", "--json").stdout)
    assert status["installed"] is status["known"] is True
    assert status["implementation"] == implementation
    assert run("check", "--fail-level", "WARNING").returncode == 0
    # The template of the debug toolbar's panel.
    assert "No receivers were called" in run("render").stdout
    # `profile` needs an interpreter, and sys.executable is the program itself.
    profile = run("altdispatch", "profile", "--url", "/")
    assert profile.returncode == 1
    assert "no interpreter" in profile.stderr


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Return the address of a uWSGI server with two applications, /one and /two."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(APPLICATION)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    server = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("uwsgi"), "--need-app", "--die-on-term"),
            *("--http-socket", address, "--manage-script-name"),
            *("--mount", "/one=one.py", "--mount", "/two=two.py"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ALTDISPATCH_PURE_PYTHON": "",
            "ALTDISPATCH_REQUIRE_SPEEDUPS": "",
        },
    )
    try:
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(timeout=60)


def get(url: str) -> Any:
    """Wait for the server and return its response."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                return json.load(response)
        except urllib.error.URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@pytest.mark.skipif(
    find_spec("uwsgidecorators") is None, reason="uWSGI isn't installed"
)
@pytest.mark.skipif("c" not in IMPLEMENTATIONS, reason="the extension isn't built")
def test_applications_of_uwsgi(served):
    """The second application's interpreter uses Python, and says why."""
    assert get(f"{served}/one") == ["called", "c", "the extension is there"]
    answer, implementation, reason = get(f"{served}/two")
    assert (answer, implementation) == ("called", "python")
    assert reason.startswith(
        "the extension can't be loaded: another interpreter in this process already"
    )
    assert "run each application in its own process" in reason
