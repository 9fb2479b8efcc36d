"""Answer for Django's own receivers of ``request_started`` without starting a thread.

Under ``ASGIHandler``, each request has its own thread for synchronous code. Django
starts it for ``reset_queries()`` and ``close_old_connections()``, which clean up the
database connections of their thread. A new thread has none, so they do nothing there.
altdispatch returns their responses without calling them, and the request's thread
starts when something else needs it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

import asgiref.sync
import django.utils.connection
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.utils.connection import BaseConnectionHandler

Responses = list[tuple[Callable[..., Any], Any]]

#: Whether this is done: the option DEFER_REQUEST_THREADS of the setting ALTDISPATCH.
is_on = True

# What asgiref makes of the sender's context when it returns from a thread.
_restore_context: Any = getattr(asgiref.sync, "_restore_context", None)

#: Whether asgiref can tell which thread synchronous code would run in.
KNOWS_THREADS = _restore_context is not None and all(
    hasattr(owner, name)
    for owner, name in (
        (AsyncToSync, "executors"),
        (SyncToAsync, "context_to_thread_executor"),
        (SyncToAsync, "deadlock_context"),
        (SyncToAsync, "thread_handler"),
        (SyncToAsync, "thread_sensitive_context"),
        (ThreadSensitiveContext(), "token"),
    )
)

# What programs patch to keep threads, or to prepare them.
_run_thread: Any = threading.Thread.run
_run_in_executor: Any = asyncio.BaseEventLoop.run_in_executor
_settings_of_handler: Any = vars(BaseConnectionHandler).get("settings")

# The receivers, and all names that each of them uses. A function that uses others is
# not one that does nothing without connections.
_NAMES_USED = {
    "reset_queries": {"connections", "all", "queries_log", "clear"},
    "close_old_connections": {"connections", "all", "close_if_unusable_or_obsolete"},
}
# The code of each, in case a program replaces it.
_codes: dict[str, CodeType] = {}


def note_codes() -> None:
    """Take the code that the receivers have now for Django's own."""
    for name in _NAMES_USED:
        _is_djangos_own(getattr(sys.modules.get("django.db"), name, None))


def are_djangos_own(receivers: Any) -> bool:
    """Return whether these do nothing in a thread without database connections."""
    return (
        is_on
        and KNOWS_THREADS
        # A patched look-up may have found them in something that is read once.
        and type(receivers) is list
        and all(map(_is_djangos_own, receivers))
    )


def _is_djangos_own(receiver: Any) -> bool:
    # Not imported here: that connects the receivers, before those of the program.
    if not _is_written_in(sys.modules.get("django.db"), receiver):
        return False
    code = receiver.__code__
    return (
        _NAMES_USED.get(code.co_qualname) == {*code.co_names}
        and _codes.setdefault(code.co_qualname, code) is code
    )


async def answer_without_thread(
    receivers: list[Callable[..., Any]],
    call: Callable[[], Responses],
    run_in_thread: Callable[[Callable[[], Responses]], Awaitable[Responses]],
    is_watched: bool,
) -> Responses:
    """Return the responses of these receivers; call them only if they may do something.

    They do nothing if their thread is yet to be started, and no connections can be seen
    from here: a new thread sees no more. ``is_watched`` is whether monitoring counts
    their calls, so that they have to be made.
    """
    if not (_is_thread_to_come() and _is_without_connections()):
        return await run_in_thread(call)
    # As asgiref leaves the context after a thread.
    _restore_context(contextvars.copy_context())
    SyncToAsync.deadlock_context.set(False)
    return call() if is_watched else [(receiver, None) for receiver in receivers]


def _is_thread_to_come() -> bool:
    """Return whether asgiref would start a new thread for synchronous code."""
    context: Any = SyncToAsync.thread_sensitive_context.get(None)
    return (
        type(context) is ThreadSensitiveContext
        # If it has been left, asgiref may raise an error.
        and context.token is not None
        and context not in SyncToAsync.context_to_thread_executor
        and not getattr(AsyncToSync.executors, "current", None)
        and not SyncToAsync.deadlock_context.get(False)
        # At exit, no threads are started.
        and threading.main_thread().is_alive()
        and not getattr(concurrent.futures.thread, "_shutdown", True)
        and _is_thread_new()
        and _is_written_in(asgiref.sync, SyncToAsync.__call__)
        and _is_written_in(asgiref.sync, SyncToAsync.thread_handler)
        and not _is_being_cancelled()
    )


def _is_thread_new() -> bool:
    """Return whether no program keeps or prepares the threads that asgiref starts."""
    loop: Any = asyncio.get_running_loop()
    return (
        getattr(asgiref.sync, "ThreadPoolExecutor", None)
        is concurrent.futures.ThreadPoolExecutor
        and threading.Thread.run is _run_thread
        and (
            type(loop).run_in_executor is _run_in_executor
            or type(loop).__module__ == "uvloop"
        )
        and "run_in_executor" not in loop.__dict__
    )


def _is_being_cancelled() -> bool:
    """Return whether the sender would be cancelled where it waits for the thread."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _is_without_connections() -> bool:
    """Return whether Django's handler of connections has none to show here."""
    handler = vars(sys.modules["django.db"])["connections"]
    try:
        return _is_djangos_handler(handler) and not any(
            hasattr(handler._connections, alias) for alias in vars(handler)["settings"]
        )
    except (TypeError, RuntimeError):
        # An alias that is no string, or one that another thread adds. The receivers
        # meet the same error in the thread, where it is due.
        return False


def _is_djangos_handler(handler: Any) -> bool:
    cls = type(handler)
    return (
        cls.__module__ == "django.db.utils"
        # Read on first use, by code of the program's.
        and type(vars(handler).get("settings")) is dict
        and vars(BaseConnectionHandler).get("settings") is _settings_of_handler
        and "settings" not in vars(cls)
        and "all" not in vars(handler)
        and "_connections" in vars(handler)
        and _is_written_in(django.utils.connection, cls.all)
        and _is_written_in(django.utils.connection, cls.__iter__)
        and _is_written_in(django.utils.connection, cls.__getitem__)
    )


def _is_written_in(module: ModuleType | None, function: Any) -> bool:
    """Return whether a function is the module's own: what wraps it isn't."""
    return (
        module is not None
        and type(function) is FunctionType
        and function.__globals__ is vars(module)
    )
