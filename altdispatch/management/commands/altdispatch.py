from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from altdispatch import status
from altdispatch.handlers import Failed
from altdispatch.listing import Connection, ListedSignal, list_signals
from altdispatch.lost import LostReceiver, find_lost
from altdispatch.profile_page import make_page
from altdispatch.profile_report import (
    give_title,
    give_verdict,
    list_receivers,
    list_sends,
    name_unit,
)
from altdispatch.profiling import Work, profile

INDENT = "  "


class _Subparser(CommandParser):
    """Accept the common command options after the subcommand's name, too."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for option in ("--settings", "--pythonpath"):
            self.add_argument(option, default=SUPPRESS, help=SUPPRESS)
        for option in ("--traceback", "--no-color", "--force-color"):
            self.add_argument(
                option, action="store_true", default=SUPPRESS, help=SUPPRESS
            )

    def add_json(self) -> None:
        self.add_argument(
            "--json", action="store_true", default=SUPPRESS, help="write it as JSON"
        )


class Command(BaseCommand):
    help = "Show what is swapped, list signals and receivers, or profile them."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.set_defaults(tell=self.tell_status)
        parser.add_argument("--json", action="store_true", help="write it as JSON")
        subparsers = parser.add_subparsers(
            title="subcommands", metavar="SUBCOMMAND", parser_class=_Subparser
        )
        add = subparsers.add_parser("status", help="what is swapped; the default")
        add.set_defaults(tell=self.tell_status)
        add.add_json()

        add = subparsers.add_parser("signals", help="all signals and their receivers")
        add.set_defaults(tell=self.tell_signals)
        add.add_argument(
            "--signal",
            metavar="NAME",
            help="only signals with this name, with or without the module; * matches "
            "anything",
        )
        add.add_argument(
            "--sender",
            metavar="NAME",
            help="only receivers that this sender reaches, including those connected "
            "for every sender; write a model as app.Model",
        )
        add.add_argument(
            "--app", metavar="LABEL", help="only receivers that are defined in this app"
        )
        which = add.add_mutually_exclusive_group()
        which.add_argument(
            "--all", action="store_true", help="also signals that have no receivers"
        )
        which.add_argument(
            "--unheard",
            action="store_true",
            help="only signals without receivers; with --sender or --app, only those "
            "without a receiver for that sender or app",
        )
        which.add_argument(
            "--lost",
            action="store_true",
            help="only receivers that were connected weakly, and died while the apps "
            "were loaded",
        )
        add.add_json()

        add = subparsers.add_parser(
            "profile",
            help="how long your receivers take, and what altdispatch saves",
            usage="%(prog)s [OPTION ...] (--url PATH | -- COMMAND [ARGUMENT ...])",
        )
        add.set_defaults(tell=self.tell_profile)
        add.add_argument(
            "command_line",
            nargs="*",
            metavar="COMMAND",
            help="a management command and its arguments; it runs three times",
        )
        add.add_argument(
            "--url", metavar="PATH", help="the page to request, such as /books/?page=2"
        )
        add.add_argument(
            "--requests",
            type=int,
            default=100,
            metavar="N",
            help="how many requests to make (100)",
        )
        add.add_argument(
            "--user", default="", metavar="NAME", help="the username to log in as"
        )
        add.add_argument("--method", default="GET", help="the method (GET)")
        add.add_argument(
            "--data", default="", help="the body of a form, such as a=1&b=2"
        )
        add.add_argument(
            "--header",
            action="append",
            default=[],
            metavar="'NAME: VALUE'",
            help="a header; can be repeated",
        )
        add.add_argument(
            "--asgi", action="store_true", help="make requests to the ASGI handler"
        )
        add.add_argument(
            "--html", metavar="FILE", help="also write an HTML page to this file"
        )
        add.add_json()

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as head, has seen enough. Nor must the interpreter write
            # what is left when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    def handle(self, *args: Any, tell: Any, **options: Any) -> None:
        tell(options)

    def tell_status(self, options: dict[str, Any]) -> None:
        now = status()
        if options["json"]:
            self.stdout.write(json.dumps(asdict(now), indent=2))
            return
        for name, value in now.rows().items():
            label = self.style.MIGRATE_LABEL(f"{name + ':':16}")
            self.stdout.write(label + value)

    def tell_lost(self, options: dict[str, Any]) -> None:
        if options["signal"] or options["sender"] or options["app"]:
            raise CommandError(
                "--lost can't be combined with --signal, --sender or --app."
            )
        lost = find_lost()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(one) for one in lost], indent=2))
            return
        for one in lost:
            signal = one.signal or "a signal without a name"
            self.stdout.write(self.style.MIGRATE_HEADING(signal))
            self.stdout.write(INDENT + _tell_lost(one))
        if not lost:
            self.stdout.write("No lost receivers.")

    def tell_signals(self, options: dict[str, Any]) -> None:
        if options["lost"]:
            self.tell_lost(options)
            return
        listed = list_signals()
        signals = _select(listed, options)
        if options["json"]:
            answer = [asdict(signal) for signal in signals]
            self.stdout.write(json.dumps(answer, indent=2))
            return
        rows = [[_row(one) for one in signal.connections] for signal in signals]
        for signal, lines in zip(signals, _lay_out(rows), strict=True):
            self.stdout.write(self.style.MIGRATE_HEADING(signal.name or signal.type))
            for line in lines or ["no receivers"]:
                self.stdout.write(INDENT + line)
        is_found = any(rows) or options["unheard"]
        if not signals or (not is_found and (options["sender"] or options["app"])):
            self.stdout.write(_nothing(options))
        elif hidden := _count_hidden(listed, signals, options):
            self.stdout.write(_describe_hidden(hidden))

    def tell_profile(self, options: dict[str, Any]) -> None:
        command, url = options["command_line"], options["url"]
        if bool(command) is (url is not None):
            raise CommandError("Say what to profile: either --url PATH or -- COMMAND.")
        if options["requests"] < 1:
            raise CommandError("--requests must be at least 1.")
        try:
            found = profile(_make_work(options))
        except Failed as error:
            raise CommandError(str(error)) from error
        if options["html"]:
            Path(options["html"]).write_text(make_page(found), encoding="utf-8")
        if options["json"]:
            self.stdout.write(json.dumps(asdict(found), indent=2))
            return
        self.stdout.write(self.style.MIGRATE_HEADING(give_title(found)))
        each = name_unit(found)
        for heading, rows in (
            (f"Receivers, per {each}", list_receivers(found)),
            (f"Signals, per {each}", list_sends(found)),
        ):
            self.stdout.write(self.style.MIGRATE_HEADING(heading))
            for line in _align(rows):
                self.stdout.write(INDENT + line)
        self.stdout.write(give_verdict(found))


def _make_work(options: dict[str, Any]) -> Work:
    """Return what is to be profiled by the options of the command."""
    if options["command_line"]:
        return Work(command=options["command_line"])
    headers = dict(map(_split_header, options["header"]))
    return Work(
        url=options["url"],
        requests=options["requests"],
        method=options["method"].upper(),
        data=options["data"],
        headers=headers,
        user=options["user"],
        is_asgi=options["asgi"],
    )


def _split_header(header: str) -> tuple[str, str]:
    """Return the name and the value of a header, as ``--header`` has it."""
    name, colon, value = header.partition(":")
    if not (colon and name.strip()):
        raise CommandError(f"--header must be 'NAME: VALUE', not {header!r}.")
    return name.strip(), value.strip()


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a line for each row, with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(f"{cell:{width}}" for cell, width in cells).rstrip()


def _lay_out(tables: Sequence[list[list[str]]]) -> list[list[str]]:
    """Return the lines of each table: one for a row, or several if they are too wide.

    In a pipe or a file each row has one line, so that it can be searched.
    """
    width = shutil.get_terminal_size((sys.maxsize, 0)).columns - len(INDENT)
    laid_out = [[*_align(rows)] for rows in tables]
    if all(len(line) <= width for lines in laid_out for line in lines):
        return laid_out
    return [[line for row in rows for line in _stack(row, width)] for rows in tables]


def _stack(row: list[str], width: int) -> list[str]:
    """Return the lines of a row that is too wide: its first cell, then the others."""
    first, *others = row
    wrapped = textwrap.wrap(
        ", ".join(cell for cell in others if cell),
        max(width, len(INDENT) + 1),
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [first, *wrapped]


# Signals.


def _select(signals: list[ListedSignal], options: dict[str, Any]) -> list[ListedSignal]:
    """Return the signals and receivers that the options select."""
    sender = _find_sender(signals, options["sender"])
    app = _find_app(options["app"])
    signals = _named(signals, options["signal"])
    # A signal that was named is shown in any case.
    show_unheard = options["all"] or (options["signal"] and not (sender or app))
    selected = []
    for signal in signals:
        connections = [
            connection
            for connection in signal.connections
            if (not sender or connection.sender in (None, sender))
            and (not app or connection.app == app)
        ]
        if options["unheard"]:
            is_wanted = not connections
        else:
            is_wanted = bool(connections or (show_unheard and not signal.connections))
        if is_wanted:
            selected.append(replace(signal, connections=connections))
    return selected


def _find_sender(signals: list[ListedSignal], name: str | None) -> str | None:
    """Return a sender's name as connections have it, from a name in any case."""
    if not name:
        return None
    names = {
        one.sender for signal in signals for one in signal.connections if one.sender
    }
    names |= {model._meta.label for model in apps.get_models()}
    for known in names:
        if known.lower() == name.lower():
            return known
    raise CommandError(f"No model or sender is named {name!r}.")


def _find_app(name: str | None) -> str | None:
    """Return the label of an app, which may be given by its full name."""
    if not name:
        return None
    for config in apps.get_app_configs():
        if name in (config.label, config.name):
            return config.label
    raise CommandError(f"There is no app {name!r} in this project.")


def _named(signals: list[ListedSignal], name: str | None) -> list[ListedSignal]:
    """Return the signals of a name; all if there is none."""
    named = [signal for signal in signals if not name or _has_name(signal, name)]
    if not named:
        raise CommandError(f"There is no signal {name!r} in this project.")
    return named


def _nothing(options: dict[str, Any]) -> str:
    """Return the message that no receiver was selected."""
    if options["unheard"]:
        return "Each of these signals has receivers."
    app = f" in the app {options['app']!r}" if options["app"] else ""
    sender = f" for {options['sender']}" if options["sender"] else ""
    signal = f" to {options['signal']}" if options["signal"] else ""
    return f"No receiver{app} is connected{sender}{signal}."


def _count_hidden(
    listed: list[ListedSignal], shown: list[ListedSignal], options: dict[str, Any]
) -> int:
    """Return how many signals are not shown only because they have no receivers."""
    if options["signal"] or options["sender"] or options["app"] or options["unheard"]:
        return 0
    return len(listed) - len(shown)


def _describe_hidden(count: int) -> str:
    if count == 1:
        return "1 signal without receivers is hidden. Show it with --all."
    return f"{count} signals without receivers are hidden. Show them with --all."


def _has_name(signal: ListedSignal, pattern: str) -> bool:
    name = signal.name or signal.type
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[2], pattern)


def _row(connection: Connection) -> list[str]:
    """Return the columns of a receiver."""
    details = ["weak" if connection.weak else "strong"]
    if connection.task:
        details.append(f"task ({connection.task})")
    if connection.asynchronous:
        details.append("async")
    if connection.hybrid:
        details.append("hybrid")
    if connection.dispatch_uid:
        details.append(f"uid {connection.dispatch_uid}")
    where = ""
    if connection.file:
        where = f"{_shorten(connection.file)}:{connection.line}"
    sender = connection.sender or "every sender"
    return [connection.receiver, sender, where, ", ".join(details)]


def _tell_lost(lost: LostReceiver) -> str:
    if lost.receiver is None:
        return "a receiver that was connected before the swap"
    where = f"{_shorten(lost.file)}:{lost.line}" if lost.file else "unknown"
    return f"{lost.receiver}, {lost.kind}, connected at {where}"


def _shorten(file: str) -> str:
    """Return a path relative to the current folder or an entry of ``sys.path``.

    Choose whichever is shorter.
    """
    folders = [os.path.join(folder, "") for folder in (os.getcwd(), *sys.path)]
    return min((file.removeprefix(folder) for folder in folders), key=len)
