"""Connect tasks to signals, so that each send queues one.

By default the task is stored in the transaction of the data, so that both are committed
or neither is. The receivers are connected with an ordinary ``connect()``, so this works
on stock Django too.

A task is a function decorated with ``@task``, from ``django.tasks`` or from the package
django-tasks. This module imports neither: Django 5.2 has no tasks, and the package is
optional.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial, update_wrapper
from importlib import import_module
from inspect import signature
from types import FrameType, FunctionType, MethodType
from typing import (
    Any,
    Literal,
    Protocol,
    TypeVar,
    cast,
    get_args,
    runtime_checkable,
)

import asgiref
import django.dispatch.dispatcher
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.apps import apps
from django.conf import settings
from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, router, transaction
from django.db.models.base import ModelBase
from django.db.models.signals import ModelSignal
from django.dispatch import Signal
from django.utils.inspect import func_accepts_kwargs

from .apps import get_options
from .naming import ON_COMMIT, dotted
from .senders import find_sender

__all__ = ["connect_task", "disconnect_task", "on_commit", "task_receiver"]

When = Literal["transaction", "commit", "now"]
Receiver = Callable[..., Any]
Payload = Callable[..., dict[str, Any] | None]
AsyncPayload = Callable[..., Awaitable[dict[str, Any] | None]]

# Typed as Any, as _make_id() is private.
stock: Any = django.dispatch.dispatcher
# The attribute of a connected function that has its TaskReceiver.
_RECEIVER = "_altdispatch_task_receiver"
# Code in these folders is skipped when looking for the line that sent a signal.
_SKIPPED_FOLDERS = tuple(
    os.path.join(os.path.dirname(path), "")
    for path in (__file__, asgiref.__file__, django.__file__)
)
# A payload that is nested more deeply probably contains itself.
_MAX_DEPTH = 100


@runtime_checkable
class Task(Protocol):
    """What altdispatch uses of a task of ``django.tasks`` or django-tasks.

    .. versionadded:: 0.2
    """

    @property
    def func(self) -> Callable[..., Any]: ...

    @property
    def module_path(self) -> str: ...

    @property
    def backend(self) -> str: ...

    @property
    def queue_name(self) -> str: ...

    @property
    def priority(self) -> int: ...

    @property
    def run_after(self) -> datetime | None: ...

    def get_backend(self) -> Any: ...

    def enqueue(self, *args: Any, **kwargs: Any) -> Any: ...

    def aenqueue(self, *args: Any, **kwargs: Any) -> Awaitable[Any]: ...


T = TypeVar("T", bound=Task)


def connect_task(
    signal: Signal,
    task: Task,
    sender: object = None,
    *,
    payload: Payload | AsyncPayload,
    when: When = "transaction",
    raw: bool = False,
    dispatch_uid: Hashable = None,
) -> None:
    """Queue ``task`` each time that ``signal`` is sent.

    Args:

        signal, sender
            As in ``Signal.connect()``. You can write a model as ``"app.Model"`` with
            every signal, but before the models are loaded only with the signals of
            models.
        task
            A function decorated with ``@task``.
        payload
            A function that is called with the arguments of a receiver. It returns the
            keyword arguments of the task, as a dictionary that can be written as JSON,
            or None to queue no task. If it's a coroutine function, the receiver is
            asynchronous, and calls the task's ``aenqueue()``.
        when
            ``"transaction"``: store the task in the transaction of the data, so that
            both are committed or neither is. ``"commit"``: queue it once the
            transaction is committed, or at once if there is none. ``"now"``: queue it
            at once.
        raw
            Whether to queue tasks for instances loaded from fixtures, too.
        dispatch_uid
            By default it's made from the task, its backend and its queue. So connecting
            a task twice to the same signal and sender connects it once. Connecting it
            again with, for example, another payload raises ``ValueError``.

    The signal keeps the receiver alive until you call :func:`disconnect_task`.

    Raise ``ImproperlyConfigured`` if ``when`` is ``"transaction"`` and the task's
    backend isn't known to store tasks in the database of the data. django-tasks-db
    stores them where the database routers say. For other backends, set the option
    ``TASK_DATABASES`` of the setting ``ALTDISPATCH``. Each send is checked again, as it
    may be for another database.

    .. versionadded:: 0.2
    """
    _check_signal_and_task(signal, task)
    if not callable(payload):
        raise TypeError(f"The payload must be a function, not {payload!r}.")
    if when not in get_args(When):
        raise ValueError(
            f"when={when!r} must be one of: {', '.join(map(repr, get_args(When)))}."
        )
    get_options()
    sender = _find_sender(signal, sender)
    is_model = isinstance(signal, ModelSignal) and isinstance(sender, (str, ModelBase))
    receiver = TaskReceiver(task, payload, when, raw, sender if is_model else None)
    if problem := receiver.find_problem():
        raise ImproperlyConfigured(problem)
    uid = dispatch_uid or _dispatch_uid(task)
    signal.connect(receiver.as_function(), sender=sender, weak=False, dispatch_uid=uid)
    # If this key is connected already, connect() ignores the new receiver silently.
    connected = _find_connected(signal, (uid, stock._make_id(sender)))
    if connected is not None and not receiver.is_like(connected):
        raise ValueError(
            f"{task.module_path} is already connected to this signal and sender, with "
            "another payload, when, raw, priority or run_after. Disconnect it first, "
            "or give this connection a dispatch_uid of its own."
        )


def disconnect_task(
    signal: Signal,
    task: Task,
    sender: object = None,
    *,
    dispatch_uid: Hashable = None,
) -> bool:
    """Undo :func:`connect_task`; return whether the task was connected.

    .. versionadded:: 0.2
    """
    _check_signal_and_task(signal, task)
    uid = dispatch_uid or _dispatch_uid(task)
    return signal.disconnect(sender=find_sender(sender), dispatch_uid=uid)


def task_receiver(
    signal: Signal | list[Signal] | tuple[Signal, ...],
    sender: object = None,
    *,
    payload: Payload | AsyncPayload,
    when: When = "transaction",
    raw: bool = False,
    dispatch_uid: Hashable = None,
) -> Callable[[T], T]:
    """Connect the decorated task to a signal, or to each of several signals.

    Write it above ``@task``. It takes the same arguments as :func:`connect_task`.

    .. versionadded:: 0.2
    """

    def connect(task: T) -> T:
        for each in signal if isinstance(signal, (list, tuple)) else (signal,):
            connect_task(
                each,
                task,
                sender,
                payload=payload,
                when=when,
                raw=raw,
                dispatch_uid=dispatch_uid,
            )
        return task

    return connect


def on_commit(receiver: Receiver, *, robust: bool = False) -> Receiver:
    """Return a receiver that calls ``receiver`` once the transaction is committed.

    ``receiver`` gets the same arguments. It's called at once if there is no
    transaction, and never if the transaction is rolled back or the process dies before
    the commit. The transaction is that of the database that the signal names in
    ``using``, or of the default database. A coroutine function is run in an event loop.
    ``robust`` is passed to ``transaction.on_commit()``: whether errors are logged
    instead of raised.

    For the same receiver the results are equal, and live as long as it does. So you can
    connect the result weakly, and disconnect it. If ``receiver`` is a bound method, or
    another object that takes no attributes, connect the result with ``weak=False``.

    Raise ``TypeError`` if ``receiver`` can't be called; with ``settings.DEBUG``, raise
    ``ValueError`` if it takes no ``**kwargs``.

    .. versionadded:: 0.2
    """
    if not callable(receiver):
        raise TypeError(f"{receiver!r} can't be called. connect_task() is for tasks.")
    if settings.configured and settings.DEBUG and not func_accepts_kwargs(receiver):
        # connect() can't check this: it only sees the function that is returned.
        raise ValueError("Signal receivers must accept keyword arguments (**kwargs).")
    name = f"_altdispatch_on_commit_{robust}"
    register = getattr(receiver, "__dict__", {}).get(name)
    if register is None:
        register = _make_register(receiver, robust)
        with suppress(AttributeError, TypeError):
            setattr(receiver, name, register)
    # A bound method, as a weak connection of one lets its object, the receiver, die.
    return MethodType(register, receiver)


def _make_register(receiver: Receiver, robust: bool) -> Receiver:
    """Return a function that registers its first argument to be called on commit.

    It has the name of ``receiver``, but no reference to it: the receiver has the
    function as an attribute, and must be able to die.
    """

    def register(receiver: Receiver, /, **named: Any) -> None:
        # asgiref's, as inspect's ignores asgiref's markcoroutinefunction() on 3.11.
        is_async = iscoroutinefunction(receiver)
        run: Receiver = async_to_sync(receiver) if is_async else receiver

        def call() -> None:
            run(**named)

        # If it fails and robust is true, Django logs its name.
        update_wrapper(call, receiver, updated=())
        transaction.on_commit(call, using=named.get("using"), robust=robust)

    # Without its attributes: one of them may mark the receiver as a coroutine function.
    update_wrapper(register, receiver, updated=())
    del vars(register)["__wrapped__"]
    vars(register)[ON_COMMIT] = True
    return register


@dataclass(frozen=True, eq=False)
class TaskReceiver:
    """The receiver that queues a task."""

    task: Task
    payload: Payload | AsyncPayload
    when: When
    raw: bool
    #: The sender if it's a model, as a class or a name; otherwise None.
    model: Any

    def as_function(self) -> Receiver:
        """Return a function to connect, with the name of the task's function."""

        def receive(**named: Any) -> Any:
            return self.receive(**named)

        async def areceive(**named: Any) -> Any:
            return await self.areceive(**named)

        # asgiref's, as inspect's ignores asgiref's markcoroutinefunction() on 3.11.
        is_async = iscoroutinefunction(self.payload)
        function = areceive if is_async else receive
        # With DEBUG, connect() checks the signature: not that of the task's function.
        own = {"__signature__": signature(function), _RECEIVER: self}
        update_wrapper(function, self.task.func, updated=())
        vars(function).update(own)
        return function

    def is_like(self, other: TaskReceiver) -> bool:
        """Return whether both queue the same task in the same way."""
        return (
            (self.when, self.raw) == (other.when, other.raw)
            and _options(self.task) == _options(other.task)
            and _is_same_function(self.payload, other.payload)
        )

    def receive(self, **named: Any) -> Any:
        """Queue the task; return its result, or None if it isn't queued now."""
        payload: Any = (
            None if self._is_ignored_fixture(named) else self.payload(**named)
        )
        if payload is None:
            return None
        arguments, warning = self._prepare(payload, named)
        if arguments is None:
            return None
        result = self.task.enqueue(**arguments)
        _warn(warning)
        return result

    async def areceive(self, **named: Any) -> Any:
        """Do what ``receive()`` does, with ``aenqueue()``."""
        call: Any = self.payload
        payload = None if self._is_ignored_fixture(named) else await call(**named)
        if payload is None:
            return None
        # Database connections belong to threads. The transaction is in the thread where
        # sync_to_async() runs Django's synchronous code.
        prepare = sync_to_async(self._prepare)
        arguments, warning = await prepare(payload, named)
        if arguments is None:
            return None
        result = await self.task.aenqueue(**arguments)
        _warn(warning)
        return result

    def _prepare(
        self, payload: Any, named: dict[str, Any]
    ) -> tuple[dict[str, Any] | None, str]:
        """Return the arguments to queue now, if any, and a warning for after that."""
        arguments = self._check_payload(payload)
        using = named.get("using") or DEFAULT_DB_ALIAS
        if self.when == "commit":
            queue = partial(self.task.enqueue, **arguments)
            transaction.on_commit(queue, using=using)
            return None, ""
        warns = self.when == "transaction" and self._is_outside_transaction(using)
        return arguments, self._warning(using) if warns else ""

    def _is_ignored_fixture(self, named: dict[str, Any]) -> bool:
        # Other signals may use the name raw for something else.
        is_of_model = isinstance(named["signal"], ModelSignal)
        return is_of_model and not self.raw and bool(named.get("raw"))

    def find_problem(self) -> str | None:
        """Return why the task can't be in the transaction, if that is known."""
        if self.when != "transaction" or not apps.models_ready:
            return None
        try:
            model = self.model
            if isinstance(model, str):
                model = apps.get_model(model)
        except LookupError:
            # Django's check signals.E001 reports such a name.
            model = None
        return self._find_problem(model and router.db_for_write(model))

    def _find_problem(self, using: str | None) -> str | None:
        backend = self.task.get_backend()
        database = _database_of(backend)
        if database is None:
            return (
                f'{self.task.module_path} is connected with when="transaction", but '
                f"its backend, {type(backend).__name__}, isn't known to store tasks in "
                'a database of this project. Use django-tasks-db, or when="commit"; or '
                "name the database in the option TASK_DATABASES of the setting "
                "ALTDISPATCH."
            )
        if using not in (None, database):
            return (
                f'{self.task.module_path} is connected with when="transaction", but '
                f"its backend stores tasks in the database {database!r}, and the data "
                f"is in {using!r}: no transaction covers both databases. Route the "
                f'tasks to {using!r}, or use when="commit".'
            )
        return None

    def _is_outside_transaction(self, using: str) -> bool:
        """Return whether no transaction is open; raise if it's in another database."""
        if problem := self._find_problem(using):
            raise ImproperlyConfigured(problem)
        return transaction.get_autocommit(using)

    def _warning(self, using: str) -> str:
        return (
            f"{self.task.module_path} was queued outside a transaction: the task and "
            "the data are committed one after the other. If the process dies in "
            "between, one of them is missing. Send the signal inside "
            f'transaction.atomic(using="{using}").'
        )

    def _check_payload(self, payload: Any) -> dict[str, Any]:
        """Return a copy, which later changes of the payload don't affect.

        Raise ``TypeError`` if the payload can't be queued.
        """
        name = self.task.module_path
        if not isinstance(payload, dict):
            raise TypeError(
                f"The payload of {name} must be a dictionary or None, not "
                f"{type(payload).__name__}."
            )
        if "self" in payload:
            # With when="commit", enqueue() would fail only after the commit.
            raise TypeError(
                f"The payload of {name} has the key 'self', which enqueue() can't take."
            )
        try:
            copy: dict[str, Any] = _copy_json(payload, ())
        except _NotJSON as error:
            raise TypeError(
                f"The payload of {name} can't be written as JSON: {error}."
            ) from None
        return copy


def _warn(warning: str) -> None:
    """Issue the warning, if any, for the line that sent the signal.

    Call it after the task is queued, as a filter may turn the warning into an error.
    """
    if not warning:
        return
    frame: FrameType | None = sys._getframe()
    level = 1
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED_FOLDERS):
        frame = frame.f_back
        level += 1
    warnings.warn(warning, RuntimeWarning, stacklevel=level)


def task_receiver_of(receiver: Any) -> TaskReceiver | None:
    """Return the ``TaskReceiver`` of a connected function; None for other receivers."""
    # Not isinstance(), which would evaluate lazy objects.
    if type(receiver) is not FunctionType:
        return None
    return vars(receiver).get(_RECEIVER)


def _check_signal_and_task(signal: object, task: object) -> None:
    if not isinstance(signal, Signal):
        raise TypeError(
            f"{signal!r} is not a signal. Only task_receiver() takes several."
        )
    if not isinstance(task, Task):
        raise TypeError(
            f"{task!r} is not a task. Decorate the function with @task first: "
            "@task_receiver stands above it."
        )


def _find_connected(signal: Signal, key: tuple[Any, Any]) -> TaskReceiver | None:
    """Return the ``TaskReceiver`` that is connected with a lookup key, if any."""
    found = [entry[1] for entry in signal.receivers if entry[0] == key]
    return task_receiver_of(found[0]) if found else None


def _options(task: Task) -> tuple[Any, ...]:
    # Not the function: when its module is reloaded, it's another object.
    return (
        task.module_path,
        task.backend,
        task.queue_name,
        task.priority,
        task.run_after,
    )


def _is_same_function(one: Any, other: Any) -> bool:
    """Return whether both are the same function, also after a reload of its module."""
    if one == other:
        return True
    functions = [each for each in (one, other) if type(each) is FunctionType]
    names = {(each.__module__, each.__qualname__) for each in functions}
    # Different lambdas and local functions can have the same name.
    return len(functions) == 2 and len(names) == 1 and "<" not in one.__qualname__


def _find_sender(signal: Signal, sender: object) -> object:
    """Return the model of a name, or the name if Django can resolve it later."""
    try:
        return find_sender(sender)
    except (LookupError, AppRegistryNotReady):
        if not isinstance(signal, ModelSignal):
            raise
        return sender


def _dispatch_uid(task: Task) -> str:
    """Return the default ``dispatch_uid`` of a task.

    It's made of names, as the task is another object when its module is reloaded.
    """
    return f"{__name__}:{task.module_path} ({task.backend}, {task.queue_name})"


def _database_of(backend: Any) -> str | None:
    """Return the alias of the database that a backend stores tasks in, if any."""
    # Not get_options(), which validates at each call: connect_task() has called it.
    options = getattr(settings, "ALTDISPATCH", {}).get("TASK_DATABASES", {})
    if backend.alias in options:
        return cast(str, options[backend.alias])
    package = sys.modules.get("django_tasks_db.backend")
    if package is None or not isinstance(backend, package.DatabaseBackend):
        return None
    try:
        model = import_module("django_tasks_db.models").DBTaskResult
    except RuntimeError as error:
        # Django raises it for models of an app that is not installed.
        raise ImproperlyConfigured(
            'DatabaseBackend needs "django_tasks_db" in INSTALLED_APPS.'
        ) from error
    return router.db_for_write(model)


class _NotJSON(Exception):
    """A payload has a value that can't be written as JSON."""


def _copy_json(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return a copy of the value that has JSON's types only.

    Values of subclasses, such as choices and ``SafeString``, become plain ones. Raise
    ``_NotJSON``, with the path of keys, if there is a value of another type.
    """
    kind = type(value)
    if len(path) > _MAX_DEPTH:
        raise _NotJSON(f"{path[0]!r} is nested too deeply, or in itself")
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_copy_json(each, (*path, i)) for i, each in enumerate(value)]
    if isinstance(value, dict):
        return {
            _copy_key(key, path): _copy_json(each, (*path, key))
            for key, each in value.items()
        }
    # Not its repr(), which may be long, or query a database.
    is_float = isinstance(value, float)
    what = float.__repr__(value) if is_float else f"of type {dotted(kind)}"
    raise _NotJSON(f"{_show_path(path)} is {what}")


def _copy_key(key: Any, path: tuple[str | int, ...]) -> str:
    if not isinstance(key, str):
        where = f" in {_show_path(path)}" if path else ""
        raise _NotJSON(f"the key {key!r}{where} is not a string")
    return str.__str__(key)


def _show_path(path: tuple[str | int, ...]) -> str:
    """Return a path of keys as text, such as ``'lines'[0]['price']``."""
    first, *others = path
    return repr(first) + "".join(f"[{each!r}]" for each in others)
