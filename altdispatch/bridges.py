"""From synchronous to asynchronous code and back, without asgiref's detours.

What asgiref's ``async_to_sync()`` and ``sync_to_async()`` do, for what a signal has
them do, and for an asgiref whose insides are known here. With any other, and where
anything is unusual, they do it themselves.

All that relies on more than the public interface of asgiref and of asyncio is here.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import selectors
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from types import FunctionType
from typing import Any, TypeVar, cast

import asgiref
import asgiref.sync
import django.dispatch.dispatcher
from asgiref.current_thread_executor import CurrentThreadExecutor

T = TypeVar("T")

#: Django's own dispatcher, in which programs replace what it takes of asgiref.
stock: Any = django.dispatch.dispatcher

# Any, as most that is used of them is private.
AsyncToSync: Any = asgiref.sync.AsyncToSync
SyncToAsync: Any = asgiref.sync.SyncToAsync
_async_to_sync = asgiref.sync.async_to_sync
_sync_to_async = asgiref.sync.sync_to_async
_restore_context: Any = getattr(asgiref.sync, "_restore_context", None)


def _methods() -> list[Any]:
    """Return those whose work is done here: others may put something in their place."""
    return [AsyncToSync.__call__, AsyncToSync.main_wrap, SyncToAsync.__call__]


_own_methods = _methods()

KNOWN_ASGIREF = asgiref.__version__ in {"3.12.0", "3.12.1", "3.13.0"} and all(
    type(method) is FunctionType and method.__globals__ is vars(asgiref.sync)
    for method in _own_methods
)

if KNOWN_ASGIREF:
    from asgiref.local import _Storage

    # Where AsyncToSync.executors are.
    _executors: Any = AsyncToSync.executors._storage._data

# From Python 3.12, tasks can start where they are made, and tell their context. What
# newer releases than these have inside of asyncio isn't known.
KNOWN_ASYNCIO = (3, 12) <= sys.version_info[:2] <= (3, 14)

# On Windows a loop can't be asked whether it has something to wait for, and not
# everywhere are there counts of references.
CAN_RUN_HERE = (
    KNOWN_ASGIREF
    and KNOWN_ASYNCIO
    and os.name == "posix"
    and sys.implementation.name == "cpython"
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)

# What programs that make event loops nest put something else in the place of.
_run = asyncio.run

# The turns of asgiref's loop up to its last, from that in which the receivers start, or
# in which the task ends: what receivers leave behind can run in them.
_TURNS_FROM_START = 3
_TURNS_FROM_END = 1


# From asynchronous code.


def join(group: asyncio.TaskGroup, task: asyncio.Task[Any]) -> None:
    """Have a group that has been entered wait for a task that it did not make."""
    group._tasks.add(task)
    task.add_done_callback(group._on_task_done)


async def call_from_async(function: Callable[..., T], *args: Any) -> T:
    """Call a synchronous function in the thread for those, and return its result."""
    loop = asyncio.get_running_loop()
    executor = _executor(loop)
    if executor is None:
        return await stock.sync_to_async(function)(*args)  # type: ignore[no-any-return]
    context = contextvars.copy_context()
    tasks: list[asyncio.Task[Any]] = []
    job = executor.submit(
        _handler.thread_handler,
        loop,
        (None, None, None),
        tasks,
        context.run,
        _call_at_home,
        context,
        function,
        args,
    )
    try:
        return await asyncio.wrap_future(job, loop=loop)
    except asyncio.CancelledError:
        if not tasks:
            raise
        # The function itself waits for asynchronous code, which is cancelled in its
        # place, and may have the last word.
        tasks[0].cancel()
        await tasks[0]
        return await asyncio.wrap_future(job, loop=loop)
    finally:
        _restore_context(context)
        SyncToAsync.deadlock_context.set(False)


def _executor(loop: asyncio.AbstractEventLoop) -> Executor | None:
    """Return the executor with the thread for synchronous code, or None if unusual."""
    if (
        not KNOWN_ASGIREF
        or stock.sync_to_async is not _sync_to_async
        or _methods() != _own_methods
        # The function would see it.
        or sys.exception() is not None
    ):
        return None
    executor = getattr(AsyncToSync.executors, "current", None)
    if executor:
        return executor  # type: ignore[no-any-return]
    thread_sensitive = SyncToAsync.thread_sensitive_context.get(None)
    if thread_sensitive:
        return _executor_of(thread_sensitive)
    if loop in AsyncToSync.loop_thread_executors:
        return AsyncToSync.loop_thread_executors[loop]  # type: ignore[no-any-return]
    if SyncToAsync.deadlock_context.get(False):
        return None
    SyncToAsync.deadlock_context.set(True)
    return SyncToAsync.single_thread_executor  # type: ignore[no-any-return]


def _executor_of(thread_sensitive: Any) -> Executor | None:
    """Return that of a context for synchronous code, such as a request has."""
    executors: Any = SyncToAsync.context_to_thread_executor
    if thread_sensitive not in executors:
        if getattr(thread_sensitive, "_exited", False):
            # An error is due. That it can say so is new in asgiref 3.13.
            return None
        executors[thread_sensitive] = ThreadPoolExecutor(max_workers=1)
    return executors[thread_sensitive]  # type: ignore[no-any-return]


def _call_at_home(
    context: contextvars.Context, function: Callable[..., T], args: tuple[Any, ...]
) -> T:
    # What is kept for this thread and context was so for the thread of the loop.
    _restore_context(context)
    return function(*args)


_handler: Any = SyncToAsync(_call_at_home)


# From synchronous code.


def run_from_sync(function: Callable[[bool], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function, and return its result.

    It runs in this thread for as long as it has nothing to wait for, and then in one of
    its own, while this one does what it asks for with ``sync_to_async()``. Its argument
    is whether that is so: if not, asgiref runs it, in a loop whose turns count.
    """
    kept = _take_loop() if _can_run_here() else None
    if kept is None:
        return stock.async_to_sync(function)(False)  # type: ignore[no-any-return]
    try:
        return _run_here(kept, function)
    finally:
        if kept.is_as_made():
            _local.kept = kept
        elif not kept.loop.is_closed():
            _finish_in_thread(kept, _start_thread(kept.loop, None))


def _can_run_here() -> bool:
    """Return whether asgiref would make a loop for this call."""
    if (
        not CAN_RUN_HERE
        or stock.async_to_sync is not _async_to_sync
        or _methods() != _own_methods
        or asyncio.run is not _run
        or asyncio.coroutines._is_debug_mode()  # type: ignore[attr-defined]
        or asyncio._get_running_loop() is not None
        # A receiver would see it.
        or sys.exception() is not None
        or AsyncToSync.async_single_thread_context.get(None)
        # Its connections are to be of a thread that ends.
        or "DJANGO_ALLOW_ASYNC_UNSAFE" in os.environ
    ):
        return False
    # Of an earlier call, or of the call from asynchronous code that this is in.
    loop = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
    return loop is None or loop.is_closed()


class _Kept:
    """A loop for calls from one thread, with what works for it in that thread."""

    def __init__(self) -> None:
        self.loop: Any = asyncio.new_event_loop()
        self.pid = os.getpid()
        self.executor = cast(Any, CurrentThreadExecutor(None))
        # It refuses what comes from its own thread, where the loop is to begin with.
        self.executor._work_thread = None
        self.storage = _Storage(threading.get_ident(), {"current": self.executor})
        weakref.finalize(self, _close, self.loop, self.pid)
        self.attributes = len(vars(self.loop))
        self.patience = self.loop.slow_callback_duration
        #: While nothing else, and no variable either, refers to it.
        self.references = self.count_references()

    def count_references(self) -> int:
        """Return how many there are to what is used again."""
        return (
            sys.getrefcount(self.loop)
            + sys.getrefcount(self.executor)
            + sys.getrefcount(self.storage)
        )

    def is_as_made(self) -> bool:
        """Return whether a call has left nothing in the loop, and nobody with it.

        Tasks, handles and asynchronous generators refer to the loop. So do threads in
        which synchronous code is called for it; contexts, to the storage.
        """
        return (
            self.count_references() == self.references
            and not self.loop.is_closed()
            and self.loop._default_executor is None
            and self.loop._exception_handler is None
            and self.loop._task_factory is None
            and not self.loop._debug
            and self.loop.slow_callback_duration == self.patience
            and len(vars(self.loop)) == self.attributes
            and not self.executor._work_items
        )


class _Local(threading.local):
    kept: _Kept | None = None


_local = _Local()


def _take_loop() -> _Kept | None:
    """Return a loop for one call; None if the program has loops of its own kind."""
    policy = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
    if policy is not None and type(policy).__module__ != "asyncio.unix_events":
        return None
    # Not to be found by a call from within this one.
    kept, _local.kept = _local.kept, None
    if kept is None or kept.pid != os.getpid():
        kept = _Kept()
    return kept


def _close(loop: Any, pid: int) -> None:
    """Close a loop that is not needed any more."""
    if os.getpid() != pid:
        # It's that of a process that this one was forked from, as are all changes to
        # what its selector waits for.
        loop._selector.close()
        loop._selector = selectors.DefaultSelector()
    if not loop.is_running():
        # It is if this process ends while another thread is in it.
        loop.close()


def _run_here(kept: _Kept, function: Callable[[bool], Coroutine[Any, Any, T]]) -> T:
    executor = kept.executor
    executor._old_executor = getattr(AsyncToSync.executors, "current", None)
    token = _executors.set(kept.storage)
    context = contextvars.copy_context()
    AsyncToSync.loop_thread_executors[kept.loop] = executor
    try:
        task = _start_here(kept.loop, function(True), context)
        _run_until_done(kept, task)
        return task.result()  # type: ignore[no-any-return]
    finally:
        if getattr(SyncToAsync.threadlocal, "main_event_loop", None) is kept.loop:
            # By work for the loop. It's not there for calls that come later.
            SyncToAsync.threadlocal.main_event_loop = None
        del AsyncToSync.loop_thread_executors[kept.loop]
        _restore_context(context)
        _executors.reset(token)


def _start_here(
    loop: Any, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context
) -> asyncio.Task[Any]:
    """Make a task and its first step, as if the loop were running in this thread."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(
        firstiter=loop._asyncgen_firstiter_hook,
        finalizer=loop._asyncgen_finalizer_hook,
    )
    loop._thread_id = threading.get_ident()
    asyncio._set_running_loop(loop)
    try:
        return asyncio.Task(
            coroutine,
            loop=loop,
            context=context,
            eager_start=True,  # type: ignore[call-arg, unused-ignore]
        )
    finally:
        asyncio._set_running_loop(None)
        loop._thread_id = None
        sys.set_asyncgen_hooks(*hooks)


def _run_until_done(kept: _Kept, task: asyncio.Task[Any]) -> None:
    """Run the loop until its task is done: in this thread while nothing is waited for.

    A loop that waits only to be woken needs no thread for that: it sleeps while this
    one works for it. If it's woken then, or something else is to be waited for, it gets
    a thread of its own.
    """
    loop, executor = kept.loop, kept.executor
    turns = _Turns(loop, task, executor)
    while True:
        if loop._ready or loop._stopping:
            turns.run()
        if task.done():
            return
        sleeps = not loop._ready and not loop._scheduled
        if not sleeps or not executor._work_items or len(loop._selector.get_map()) > 1:
            return _finish_in_thread(kept, _start_thread(loop, task))
        thread = _Work(loop, task).do(executor._work_items.popleft())
        if thread is not None:
            return _finish_in_thread(kept, thread)


class _Turns:
    """The turns of a loop, up to the one after which its task has nothing to do.

    That is when it's done, or when something must be waited for. An object, as a
    function that names itself would stay, with all it knows, until it's collected.
    """

    def __init__(self, loop: Any, task: asyncio.Task[Any], executor: Any) -> None:
        self.loop = loop
        self.task = task
        self.executor = executor
        self.left = _TURNS_FROM_START if task.done() else None
        # What still turns may wait for the work that waits for this thread.
        self.patience = 10
        self.are_over = False

    def run(self) -> None:
        """Let the loop run; raise RuntimeError if somebody has stopped it."""
        self.are_over = False
        self.loop.call_soon(self.look)
        self.loop.run_forever()
        if not self.are_over:
            # As asyncio does.
            raise RuntimeError("Event loop stopped before Future completed.")

    def look(self) -> None:
        """See, at the end of a turn, whether there is to be another one."""
        if self.loop._stopping:
            return
        if self.left is not None:
            self.left -= 1
        elif self.task.done():
            self.left = _TURNS_FROM_END
        if self.executor._work_items:
            self.patience -= 1
        if not self.loop._ready or not self.patience or self.left == 0:
            self.are_over = True
            self.loop.stop()
        else:
            self.loop.call_soon(self.look)


class _Work:
    """A call of synchronous code while the loop that asked for it sleeps."""

    def __init__(self, loop: Any, task: asyncio.Task[Any]) -> None:
        self.loop = loop
        self.task = task
        self.lock = threading.Lock()
        self.is_going_on = True
        self.thread: Future[None] | None = None

    def do(self, item: Any) -> Future[None] | None:
        """Do it; return the end of the loop's thread if it was woken meanwhile."""
        item.fn = partial(self.call, item.fn)
        self.loop.call_soon_threadsafe = self.wake
        try:
            item.run()
        finally:
            del self.loop.call_soon_threadsafe
        return self.thread

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        try:
            return function(*args, **kwargs)
        finally:
            with self.lock:
                self.is_going_on = False

    def wake(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        """Do what the method of the loop does, and have it run in a thread."""
        handle = type(self.loop).call_soon_threadsafe(self.loop, *args, **kwargs)
        with self.lock:
            if self.is_going_on and self.thread is None:
                self.thread = _start_thread(self.loop, self.task)
        return handle  # type: ignore[no-any-return]


def _start_thread(loop: Any, task: asyncio.Task[Any] | None) -> Future[None]:
    """Run the loop in a thread until ``task``, if any, is done, and close it."""
    return ThreadPoolExecutor(max_workers=1).submit(_finish, loop, task)


def _finish_in_thread(kept: _Kept, thread: Future[None]) -> None:
    """Work for the executor until the thread of the loop ends."""
    kept.executor._work_thread = threading.current_thread()
    kept.executor.run_until_future(thread)
    thread.result()


def _finish(loop: Any, task: asyncio.Task[Any] | None) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop()
        for context in _contexts(loop):
            # What is kept for this context and thread was so for the other one.
            context.run(_restore_context, context)
        if task is not None:
            try:
                loop.run_until_complete(task)
            except BaseException:
                # Raised by the caller, if it is the task's.
                if not task.done():
                    raise


def _contexts(loop: Any) -> list[contextvars.Context]:
    """Return the contexts in which a loop is going to run something."""
    tasks: set[Any] = asyncio.all_tasks(loop)
    contexts = [task.get_context() for task in tasks]
    contexts += [handle._context for handle in [*loop._ready, *loop._scheduled]]
    return list({id(context): context for context in contexts}.values())
