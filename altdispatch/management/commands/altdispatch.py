from __future__ import annotations

import json
import os
import sys
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from altdispatch import status
from altdispatch.listing import Connection, ListedSignal, list_signals
from altdispatch.profiling import Failed, Profile, Work, profile


class _Subparser(CommandParser):
    """Takes what every command takes after the name of the subcommand, too."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for option in ("--settings", "--pythonpath"):
            self.add_argument(option, default=SUPPRESS, help=SUPPRESS)
        for option in ("--traceback", "--no-color", "--force-color"):
            self.add_argument(
                option, action="store_true", default=SUPPRESS, help=SUPPRESS
            )


class Command(BaseCommand):
    help = "Tells what altdispatch does in this project, and what there is to dispatch."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.set_defaults(tell=self.tell_status)
        subparsers = parser.add_subparsers(
            title="subcommands", metavar="SUBCOMMAND", parser_class=_Subparser
        )
        add = subparsers.add_parser("status", help="what is swapped; the default")
        add.set_defaults(tell=self.tell_status)

        add = subparsers.add_parser("signals", help="all signals and their receivers")
        add.set_defaults(tell=self.tell_signals)
        add.add_argument(
            "--signal",
            metavar="NAME",
            help="only signals of that name, with or without their module; a * in it "
            "stands for anything",
        )
        add.add_argument(
            "--sender",
            metavar="NAME",
            help="only receivers of what that sends, a model as app.Model",
        )
        add.add_argument(
            "--app", metavar="LABEL", help="only receivers that are written in that app"
        )
        add.add_argument(
            "--unheard",
            action="store_true",
            help="only signals that have no receivers, or none such",
        )
        add.add_argument("--json", action="store_true", help="write it as JSON")

        add = subparsers.add_parser(
            "profile",
            help="what dispatching costs here, on stock Django and swapped",
            usage="%(prog)s (--url PATH [--requests N] | -- COMMAND [ARGUMENT ...])",
        )
        add.set_defaults(tell=self.tell_profile)
        add.add_argument(
            "command_line",
            nargs="*",
            metavar="COMMAND",
            help="a management command and its arguments; it's run three times",
        )
        add.add_argument("--url", metavar="PATH", help="what to get, as /books/?page=2")
        add.add_argument(
            "--requests", type=int, default=100, metavar="N", help="how often (100)"
        )

    def handle(self, *args: Any, tell: Any, **options: Any) -> None:
        tell(options)

    def tell_status(self, options: dict[str, Any]) -> None:
        for name, value in status().rows().items():
            label = self.style.MIGRATE_LABEL(f"{name + ':':16}")
            self.stdout.write(label + value)

    def tell_signals(self, options: dict[str, Any]) -> None:
        signals = _select(list_signals(), options)
        if options["json"]:
            answer = [asdict(signal) for signal in signals]
            self.stdout.write(json.dumps(answer, indent=2))
            return
        for signal in signals:
            self.stdout.write(self.style.MIGRATE_HEADING(signal.name or signal.type))
            if not signal.connections:
                self.stdout.write("  nobody")
            for line in _align([_row(one) for one in signal.connections]):
                self.stdout.write(f"  {line}")

    def tell_profile(self, options: dict[str, Any]) -> None:
        command, url = options["command_line"], options["url"]
        if bool(command) is (url is not None):
            raise CommandError("Say what to profile: either --url PATH or -- COMMAND.")
        if options["requests"] < 1:
            raise CommandError("There must be at least one request.")
        if command:
            work = Work(command=command)
        else:
            work = Work(url=url, requests=options["requests"])
        try:
            found = profile(work, self.stderr.write)
        except Failed as error:
            raise CommandError(str(error)) from error
        self.stdout.write(self.style.MIGRATE_HEADING(str(work)))
        for line in _align(_whole(work, found)):
            self.stdout.write(f"  {line}")
        self.stdout.write(self.style.MIGRATE_HEADING("Signals, each time"))
        for line in _align(_by_signal(found)):
            self.stdout.write(f"  {line}")
        self.stdout.write(_verdict(found))


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Give a line for each row, its cells below those of the others."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(f"{cell:{width}}" for cell, width in cells).rstrip()


# Signals.


def _select(signals: list[ListedSignal], options: dict[str, Any]) -> list[ListedSignal]:
    """Return what the options want to see of the signals and their receivers."""
    name, sender, app = options["signal"], options["sender"], options["app"]
    if sender and sender not in _senders(signals):
        raise CommandError(f"There is no model {sender!r}, and no such sender.")
    if app and not apps.is_installed(app) and app not in apps.app_configs:
        raise CommandError(f"There is no app {app!r} in this project.")
    signals = [signal for signal in signals if not name or _has_name(signal, name)]
    if not signals:
        raise CommandError(f"There is no signal {name!r} in this project.")
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
            is_wanted = bool(connections) or not (sender or app)
        if is_wanted:
            selected.append(replace(signal, connections=connections))
    return selected


def _senders(signals: list[ListedSignal]) -> set[str | None]:
    """Return the names of all models, and of what else signals are connected for."""
    names = {one.sender for signal in signals for one in signal.connections}
    return names | {model._meta.label for model in apps.get_models()}


def _has_name(signal: ListedSignal, pattern: str) -> bool:
    name = signal.name or signal.type
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[2], pattern)


def _row(connection: Connection) -> list[str]:
    """Return what is told of a receiver."""
    details = ["weak" if connection.weak else "strong"]
    if connection.task:
        details.append(f"task ({connection.task})")
    if connection.asynchronous:
        details.append("async")
    if connection.dispatch_uid:
        details.append(f"uid {connection.dispatch_uid}")
    where = ""
    if connection.file:
        where = f"{_shorten(connection.file)}:{connection.line}"
    sender = connection.sender or "every sender"
    return [connection.receiver, sender, where, ", ".join(details)]


def _shorten(file: str) -> str:
    """Return a path from the current folder on, or from one that is imported from."""
    folders = [os.path.join(folder, "") for folder in (os.getcwd(), *sys.path)]
    return min((file.removeprefix(folder) for folder in folders), key=len)


# Profiles.


def _whole(work: Work, found: Profile) -> list[list[str]]:
    """Return what the work costs."""
    what = "the command" if work.command else f"a request, median of {work.requests}"
    stock, swapped = median(found.stock), median(found.swapped)
    stock_dispatch, swapped_dispatch = found.dispatching()
    return [
        ["", "stock", "swapped"],
        [what, _time(stock), _time(swapped)],
        ["dispatching", _time(stock_dispatch), _time(swapped_dispatch)],
        ["its share", _share(stock_dispatch, stock), _share(swapped_dispatch, swapped)],
        ["receivers", _time(found.in_receivers), "the same"],
    ]


def _by_signal(found: Profile) -> list[list[str]]:
    """Return what was done with each signal."""
    head = ["", "sent", "asked", "receivers", "in them", "stock", "swapped", "saved"]
    return [head] + [
        [
            one.name,
            f"{one.sends:,.4g}",
            f"{one.checks:,.4g}",
            f"{one.receivers:,.4g}",
            _time(one.in_receivers),
            _time(one.stock),
            _time(one.swapped),
            _time(one.stock - one.swapped),
        ]
        for one in found.signals
    ]


def _verdict(found: Profile) -> str:
    """Return, in a sentence, whether it is worth it here."""
    stock, swapped = found.dispatching()
    if not stock:
        return "No signal is used: there is nothing to save."
    saved = stock - swapped
    return (
        f"altdispatch dispatches {stock / swapped:.1f} times as fast here. That saves "
        f"{_time(saved)}, {_share(saved, median(found.stock))} of the whole."
    )


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2%}"
