"""``python -m altdispatch``."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys

import pytest

from .conftest import ROOT

# What is imported from: the package, and the folder that a program runs in.
PATH = os.pathsep.join([str(ROOT), "."])

NO_PROJECT = (
    "No project is set up. Name its settings with --settings, or in "
    "DJANGO_SETTINGS_MODULE.\n"
)

PROGRAM = """\
import sys, altdispatch, django.dispatch

if __name__ == "__main__":
    print(__name__, altdispatch.is_installed(), sys.argv[1:])
    print(sys.path[0] == {folder!r}, sys.argv[0], __file__)
    print(django.dispatch.Signal().send(int))
"""


@pytest.fixture
def run(tmp_path):
    def run(*arguments, exit_code=0, **environment):
        process = subprocess.run(
            [
                sys.executable,
                "-X",
                "dev",
                "-W",
                "error",
                "-m",
                "altdispatch",
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "",
                "PYTHONPATH": str(ROOT),
                **environment,
            },
        )
        assert process.returncode == exit_code, process.stderr
        return process.stdout, process.stderr

    return run


@pytest.fixture
def program(tmp_path):
    folder = tmp_path / "somewhere"
    folder.mkdir()
    path = folder / "program.py"
    path.write_text(PROGRAM.format(folder=str(folder)))
    return path


def test_run_script(run, program):
    arguments = ["first", "-m", "--force", "last"]
    output, errors = run("run", str(program), *arguments)
    assert output.splitlines() == [
        f"__main__ True {arguments}",
        f"True {program} {program}",
        "[]",
    ]
    assert errors == ""


def test_run_script_as_python_does(run, program, tmp_path):
    """Stock and swapped, the program sees itself started in the same way."""
    program.write_text(
        "import sys, os\n"
        "main = sys.modules['__main__']\n"
        "print(sys.argv, sys.path[0], __name__, __package__, __spec__)\n"
        "print(main.__dict__ is globals(), __file__, os.getcwd())\n"
        "sys.exit(3)\n"
    )
    plain = subprocess.run(
        [sys.executable, str(program), "-x"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    output, errors = run("run", str(program), "-x", exit_code=3)
    assert (output, errors) == (plain.stdout, plain.stderr)


def test_run_module(run, program):
    output, errors = run(
        "run", "-m", "somewhere.program", "-m", "argument", PYTHONPATH=PATH
    )
    assert output.splitlines()[0] == "__main__ True ['-m', 'argument']"
    assert errors == ""


def test_run_module_of_django(run):
    output, _ = run("run", "-m", "django", "--version")
    assert output.startswith(("5.2", "6."))


def test_run_folder_with_main(run, program):
    program.rename(program.parent / "__main__.py")
    output, _ = run("run", str(program.parent), "argument")
    assert output.splitlines()[0] == "__main__ True ['argument']"


@pytest.mark.parametrize(
    ("body", "exit_code", "error"),
    [
        ("raise SystemExit('bye')", 1, "bye"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import sys; sys.exit(5)", 5, ""),
    ],
)
def test_exit_of_the_program_is_the_exit_of_run(run, program, body, exit_code, error):
    program.write_text(body)
    _, errors = run("run", str(program), exit_code=exit_code)
    assert error in errors


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["walk"], "walk"),
        (["--settings"], "expected one argument"),
        (["run"], "SCRIPT or MODULE"),
        (["run", "nowhere.py"], "no program 'nowhere.py' to run"),
        (["run", "--forced", "program.py"], "--forced"),
    ],
)
def test_wrong_command_line(run, arguments, error):
    _, errors = run(*arguments, exit_code=2)
    assert error in errors


def test_module_that_does_not_exist(run):
    _, errors = run("run", "-m", "nowhere", exit_code=1)
    assert "No module named nowhere" in errors


UNKNOWN = """\
import sys
import altdispatch.swap
import altdispatch.__main__

altdispatch.swap._KNOWN.clear()
altdispatch.__main__.main(sys.argv[1:])
"""


def test_unknown_dispatcher(run_python, program, tmp_path):
    """Without --force nothing is run: a run that isn't swapped proves nothing."""
    script = tmp_path / "unknown.py"
    script.write_text(UNKNOWN)
    outcomes = []
    for options in ([], ["--force"]):
        process = subprocess.run(
            [sys.executable, str(script), "run", *options, str(program)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        outcomes.append((process.returncode, process.stdout[:13], process.stderr[:20]))
    assert outcomes == [
        (2, "", "altdispatch does not"),
        (0, "__main__ True", ""),
    ]


CHILDREN = """\
import multiprocessing
import sys


def look(number):
    import altdispatch
    return altdispatch.is_installed()


def put(queue):
    queue.put(look(0))


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=put, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    with context.Pool(2) as pool:
        print(all(pool.map(look, range(4))))
        pool.close()
        pool.join()
"""


# A fork of a process with threads, as the queue's, is warned of from 3.12.
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("as_module", [False, True])
def test_children(run, program, method, as_module):
    program.write_text(CHILDREN)
    how = ["-m", "somewhere.program"] if as_module else [str(program)]
    output, errors = run("run", *how, method, PYTHONWARNINGS="", PYTHONPATH=PATH)
    assert output.split() == ["True", "True"], errors


def test_children_are_as_before_without_run(program):
    program.write_text(CHILDREN)
    process = subprocess.run(
        [sys.executable, str(program), "spawn"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.split() == ["False", "False"]


def test_status(run):
    output, errors = run("status")
    assert "installed:      no" in output
    assert errors == NO_PROJECT


def test_status_is_what_it_says_alone(run):
    assert run() == run("status")


@pytest.fixture
def project(tmp_path):
    """The name of a project's settings, in which altdispatch is an app."""
    (tmp_path / "project_settings.py").write_text("INSTALLED_APPS = ['altdispatch']\n")
    return "project_settings"


def test_status_of_a_project(run, project):
    for arguments in ([], ["status"]):
        output, errors = run(*arguments, DJANGO_SETTINGS_MODULE=project)
        assert "installed:      yes" in output
        assert "_live_receivers" in output
        assert errors == ""


def test_status_as_json(run, project):
    output, _ = run("status", "--json", DJANGO_SETTINGS_MODULE=project)
    told = json.loads(output)
    assert told["installed"] is told["known"] is True
    assert told["implementation"] in ("c", "python")
    assert "_live_receivers" in told["swapped"]
    assert told["left_alone"] == told["patched"] == {}
    assert json.loads(run("status", "--json")[0])["installed"] is False


def test_json_before_the_subcommand(run, project):
    settings = {"DJANGO_SETTINGS_MODULE": project}
    as_json = run("status", "--json", **settings)
    assert run("--json", **settings) == as_json
    assert run("--json", "status", **settings) == as_json
    assert "connections" in json.loads(run("--json", "signals", **settings)[0])[0]


def test_settings_as_an_option(run, project):
    assert "installed:      yes" in run("status", "--settings", project)[0]
    assert "request_started" in run("signals", f"--settings={project}")[0]
    assert "installed:      yes" in run("--settings", project)[0]
    assert "request_started" in run(f"--settings={project}", "signals")[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], "python -m altdispatch run [--force]"),
        (["-h"], "[status | signals | profile]"),
        (["run", "--help"], "usage: python -m altdispatch run"),
        (["signals", "--help"], "--unheard"),
    ],
)
def test_help(run, arguments, told):
    assert told in run(*arguments)[0]


@pytest.mark.parametrize("command", ["signals", "profile"])
def test_what_needs_a_project(run, command):
    assert run(command, exit_code=1)[1] == NO_PROJECT


@pytest.mark.parametrize("arguments", [["signals", "--all"], ["status"]])
def test_reader_that_goes_away(project, tmp_path, arguments):
    """As head does: quietly, also where nothing was written before the exit."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "altdispatch", *arguments, "--settings", project],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (1, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_signals_on_a_terminal(project, tmp_path):
    """In its width; wider than that where it's written into a pipe."""
    import fcntl
    import pty
    import struct
    import termios

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-m", "altdispatch", "signals", "--settings", project]
    options = {"cwd": tmp_path, "env": environment, "timeout": 120}
    piped = subprocess.check_output(command, **options)
    assert max(map(len, piped.splitlines())) > 60
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    # Less than what a terminal takes without its being read.
    subprocess.run(
        [*command, "--signal", "request_*"], stdout=end, check=True, **options
    )
    os.close(end)
    shown = os.read(terminal, 65536).decode().splitlines()
    os.close(terminal)
    assert "    every sender, django/db/__init__.py:" in "\n".join(shown)
    assert max(map(len, shown)) <= 60
