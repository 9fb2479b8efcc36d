"""Record the calls of receivers as plain values, to compare runs."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import PurePath
from types import FunctionType
from typing import Any, NamedTuple

from django.apps import AppConfig
from django.apps.registry import Apps
from django.contrib.auth.signals import (
    user_logged_in,
    user_logged_out,
    user_login_failed,
)
from django.core.signals import (
    got_request_exception,
    request_finished,
    request_started,
    setting_changed,
)
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.migrations import Migration
from django.db.models.signals import (
    class_prepared,
    m2m_changed,
    post_delete,
    post_init,
    post_migrate,
    post_save,
    pre_delete,
    pre_init,
    pre_migrate,
    pre_save,
)
from django.http import HttpRequest
from django.test.signals import template_rendered
from django.utils.autoreload import autoreload_started, file_changed

try:
    from django.tasks.signals import task_enqueued, task_finished, task_started
except ImportError:
    # Before Django 6.0.
    TASK_SIGNALS = {}
else:
    TASK_SIGNALS = {
        "task_enqueued": task_enqueued,
        "task_started": task_started,
        "task_finished": task_finished,
    }

#: All of Django's signals by name, imported before the swap.
SIGNALS = {
    "autoreload_started": autoreload_started,
    "class_prepared": class_prepared,
    "connection_created": connection_created,
    "file_changed": file_changed,
    "got_request_exception": got_request_exception,
    "m2m_changed": m2m_changed,
    "post_delete": post_delete,
    "post_init": post_init,
    "post_migrate": post_migrate,
    "post_save": post_save,
    "pre_delete": pre_delete,
    "pre_init": pre_init,
    "pre_migrate": pre_migrate,
    "pre_save": pre_save,
    "request_finished": request_finished,
    "request_started": request_started,
    "setting_changed": setting_changed,
    "template_rendered": template_rendered,
    "user_logged_in": user_logged_in,
    "user_logged_out": user_logged_out,
    "user_login_failed": user_login_failed,
    **TASK_SIGNALS,
}

# Seconds to wait for other threads and processes.
TIMEOUT = 60


class Call(NamedTuple):
    """One call of a receiver."""

    #: The receiver's name, and whether it is asynchronous.
    receiver: tuple[str, bool]
    signal: str
    #: In the order in which they were passed.
    arguments: list[tuple[str, Any]]
    #: What ``Record.connected()``'s ``view`` returned during the call.
    view: Any

    def get(self, name: str) -> Any:
        return dict(self.arguments)[name]


@dataclass(frozen=True)
class Recorded:
    """The record of a scenario, in plain values."""

    result: Any
    calls: list[Call]
    #: Separate, as they may run at the same time as the others.
    async_calls: list[Call]

    def of(self, signal: str) -> list[Call]:
        """Return the calls of the early receiver of a signal."""
        return [call for call in self._first() if call.signal == signal]

    def signals(self) -> list[str]:
        """Return the names of the signals that were sent, in order."""
        return [call.signal for call in self._first()]

    def _first(self) -> list[Call]:
        return [call for call in self.calls if call.receiver == ("early", False)]


class Record:
    """Collect the calls of the receivers connected to it, from any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._connected: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        self.clear()

    def clear(self) -> None:
        self._calls: dict[bool, list[Call]] = {False: [], True: []}

    def finish(self, result: Any) -> Recorded:
        return Recorded(plain(result), self._calls[False], self._calls[True])

    def add(self, call: Call) -> None:
        with self._condition:
            self._calls[call.receiver[1]].append(call)
            self._condition.notify_all()

    def wait_for(self, signal: str, count: int) -> None:
        """Wait until every receiver of a signal has been called ``count`` times."""

        def all_called() -> bool:
            calls = self._calls[False] + self._calls[True]
            called = [call.receiver for call in calls if call.signal == signal]
            return all(
                called.count(receiver) >= count for receiver in self._connected[signal]
            )

        with self._condition:
            assert self._condition.wait_for(all_called, TIMEOUT), f"no {signal}"

    @contextmanager
    def connected(
        self,
        name: str,
        signals: Iterable[str],
        *,
        sender: Any = None,
        view: Callable[[], Any] = lambda: None,
        asynchronous: bool = False,
    ) -> Iterator[None]:
        """Connect a receiver of that name to each signal.

        ``asynchronous`` adds a second, asynchronous receiver to each.
        """
        kinds = [False, True] if asynchronous else [False]
        with ExitStack() as stack:
            for signal, is_async in product(signals, kinds):
                receiver = Receiver(self, (name, is_async), signal, view)
                stack.enter_context(receiver.connected(sender))
                stack.callback(self._connected[signal].remove, receiver.key)
                self._connected[signal].append(receiver.key)
            yield


class Receiver:
    """Record the calls for one signal."""

    def __init__(
        self,
        record: Record,
        key: tuple[str, bool],
        signal: str,
        view: Callable[[], Any],
    ) -> None:
        self.record = record
        self.key = key
        self.signal = signal
        self.view = view

    def receive(self, **arguments: Any) -> None:
        call = Call(self.key, self.signal, describe(arguments), self.view())
        self.record.add(call)

    async def receive_async(self, **arguments: Any) -> None:
        self.receive(**arguments)

    @contextmanager
    def connected(self, sender: Any) -> Iterator[None]:
        """Connect: weakly as a method if early, with a dispatch_uid if late."""
        name, is_async = self.key
        signal = SIGNALS[self.signal]
        method = self.receive_async if is_async else self.receive
        uid = self.key if name == "late" else None
        signal.connect(method, sender, weak=uid is None, dispatch_uid=uid)
        try:
            yield
        finally:
            disconnected = signal.disconnect(None if uid else method, sender, uid)
        assert disconnected


@contextmanager
def connected(signal: Any, *receivers: Any, sender: Any = None) -> Iterator[None]:
    """Connect the receivers in a block."""
    for receiver in receivers:
        signal.connect(receiver, sender=sender)
    try:
        yield
    finally:
        disconnected = [
            signal.disconnect(receiver, sender=sender) for receiver in receivers
        ]
    assert all(disconnected)


def describe(arguments: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the arguments of a receiver as plain values, in order."""
    return [
        (name, BY_NAME.get(name, plain)(value)) for name, value in arguments.items()
    ]


def plain(value: Any) -> Any:
    """Return a plain value that can be compared between runs."""
    kind = type(value)
    if kind in UNCHANGED:
        return value
    for described, describe in BY_TYPE.items():
        if isinstance(value, described):
            return describe(value)
    return _name_of(kind)


def _name_of(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _describe_instance(instance: models.Model) -> Any:
    """Return the loaded fields of an instance, without a query for the others."""
    loaded = {
        field.attname: plain(instance.__dict__[field.attname])
        for field in instance._meta.concrete_fields
        if field.attname in instance.__dict__
    }
    state = instance._state
    return instance._meta.label, loaded, state.adding, state.db


def _describe_task_result(result: Any) -> Any:
    return (
        result.status.name,
        result.task.module_path,
        plain([result.args, result.kwargs]),
        [error.exception_class_path for error in result.errors],
    )


UNCHANGED = {type(None), bool, bytes, float, int, str}
BY_TYPE: dict[Any, Callable[[Any], Any]] = {
    type: _name_of,
    models.Model: _describe_instance,
    models.QuerySet: lambda query: ("query", query.model._meta.label),
    AppConfig: lambda app: ("app", app.label),
    Apps: lambda apps: sorted(model._meta.label for model in apps.get_models()),
    BaseDatabaseWrapper: lambda connection: ("database", connection.alias),
    FunctionType: _name_of,
    BaseException: lambda error: (_name_of(type(error)), str(error)),
    HttpRequest: lambda request: ("request", request.method, request.path),
    Migration: str,
    PurePath: lambda path: path.name,
    str: str,
    Mapping: lambda items: {plain(key): plain(value) for key, value in items.items()},
    (set, frozenset): lambda items: ("set", sorted(map(plain, items), key=repr)),
    (list, tuple): lambda items: [plain(item) for item in items],
}
#: Arguments whose type isn't enough to describe them.
BY_NAME: dict[str, Callable[[Any], Any]] = {
    "context": lambda context: sorted(context.flatten()),
    "environ": lambda environ: (environ["REQUEST_METHOD"], environ["PATH_INFO"]),
    "scope": lambda scope: (scope["type"], scope["method"], scope["path"]),
    "signal": lambda signal: [name for name, s in SIGNALS.items() if s is signal],
    "task_result": _describe_task_result,
    "template": lambda template: template.name,
}
