"""``python -m altdispatch``: run a program swapped, or inspect a project."""

from __future__ import annotations

import argparse
import importlib.machinery
import io
import multiprocessing.spawn
import os
import runpy
import sys
import types
import zipfile
from typing import Any

import django
from django.core.management import handle_default_options

from . import install, status

HELP = """\
usage: python -m altdispatch [status | signals | profile] [OPTION ...]
       python -m altdispatch run [--force] (SCRIPT | -m MODULE) [ARGS ...]

Do what `manage.py altdispatch` does (by default: status), or run a program with the
dispatcher swapped first. Each subcommand has a --help of its own.
"""
NO_PROJECT = (
    "No project is set up. Name its settings with --settings, or in "
    "DJANGO_SETTINGS_MODULE."
)


def main(arguments: list[str]) -> None:
    """Run the subcommand of the command line; exit with a code if it is wrong."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(HELP, end="")
    elif arguments[:1] == ["run"]:
        run(arguments[1:])
    else:
        manage(arguments)


def run(arguments: list[str]) -> None:
    """Swap the dispatcher, then run a program."""
    parser = argparse.ArgumentParser(
        prog="python -m altdispatch run",
        usage="python -m altdispatch run [--force] (SCRIPT | -m MODULE) [ARGS ...]",
    )
    parser.add_argument(
        "--force", action="store_true", help="swap even an unknown dispatcher"
    )
    parser.add_argument(
        "-m", dest="is_module", action="store_true", help="run a module"
    )
    parser.add_argument("program", metavar="SCRIPT or MODULE")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not install(force=options.force):
        parser.exit(
            2,
            f"altdispatch does not know the dispatcher of Django {status().django}. "
            "Nothing was swapped or run. Use --force to swap anyway.\n",
        )
    swap_in_children(options.force)
    sys.argv = [options.program, *options.arguments]
    if options.is_module:
        runpy.run_module(options.program, run_name="__main__", alter_sys=True)
    elif os.path.isfile(options.program) and not zipfile.is_zipfile(options.program):
        run_script(options.program)
    elif os.path.exists(options.program):
        runpy.run_path(options.program, run_name="__main__")
    else:
        parser.exit(2, f"There is no program {options.program!r} to run.\n")


def run_script(path: str) -> None:
    """Run a file as ``python FILE`` does; runpy sets other module attributes."""
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    sys.modules["__main__"] = main
    if not sys.flags.safe_path:
        # It was the folder in which `python -m altdispatch` was called.
        sys.path[0] = os.path.dirname(os.path.abspath(path))
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec")
    exec(code, vars(main))


def manage(arguments: list[str]) -> None:
    """Do what ``manage.py altdispatch`` does, also if it isn't an installed app."""
    # The project must be set up before the command parses these options itself.
    parser = argparse.ArgumentParser(
        prog="python -m altdispatch", add_help=False, allow_abbrev=False
    )
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    options, _ = parser.parse_known_args(arguments)
    handle_default_options(options)
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        django.setup()
    elif {"signals", "profile"} & {*arguments} and not {"-h", "--help"} & {*arguments}:
        sys.exit(NO_PROJECT)
    else:
        print(NO_PROJECT, file=sys.stderr)
    from .management.commands.altdispatch import Command

    Command().run_from_argv(["python -m", "altdispatch", *arguments])


class _Swap:
    """Swaps the dispatcher of the process that unpickles it."""

    def __init__(self, force: bool) -> None:
        self.force = force

    def __reduce__(self) -> tuple[Any, ...]:
        return install, (self.force,)


def swap_in_children(force: bool) -> None:
    """Swap the dispatcher in child processes that multiprocessing starts, too.

    A child that is spawned, or forked by a fork server, first unpickles a dict that
    prepares it. This adds an entry to the dict that swaps the dispatcher when it is
    unpickled, and that the child ignores otherwise.
    """
    prepare = multiprocessing.spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        return {**prepare(name), "altdispatch": _Swap(force)}

    multiprocessing.spawn.get_preparation_data = get_preparation_data


if __name__ == "__main__":
    main(sys.argv[1:])
