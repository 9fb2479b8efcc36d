"""What happens around a send that waits for asynchronous receivers.

Signal handlers, closed descriptors, forks, exits, threads and greenlets. Each program
runs in a process of its own, on stock Django and on ours, and says what it has seen.
test_async_errors.py has signal handlers that raise while results are collected.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ..implementations import COUNTS_REFERENCES

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals and fork")

PRELUDE = """
    import asyncio, atexit, contextvars, os, signal, sys, threading, time, weakref

    import django.conf
    import django.dispatch
    from asgiref.sync import sync_to_async
    from django.dispatch import Signal

    django.conf.settings.configure()
    if sys.argv[1] != "stock":
        import altdispatch
        altdispatch.install()
        assert altdispatch.status().implementation == sys.argv[1]

    class Sender:
        pass

    def say(*what):
        os.write(1, (" ".join(map(str, what)) + "\\n").encode())

    def signal_for(*receivers, caching=False):
        made = Signal(use_caching=caching)
        for receiver in receivers:
            made.connect(receiver, weak=False)
        return made

    def answers(responses):
        return [repr(answer) for _, answer in responses]
"""


Outcome = tuple[str, str, int]


@pytest.fixture(scope="session")
def stock_outcomes(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of what programs did on stock Django, which all workers share."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder if worker_id == "master" else folder.parent) / "stock-outcomes"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def run_alike(
    implementation: str, tmp_path: Path, stock_outcomes: Path
) -> Callable[..., str]:
    """Run a program on stock Django and on ours; assert that both say the same.

    On stock Django it runs once for all implementations.
    """

    def run(
        program: str, *options: str, before: str = "", exits_in_order: bool = True
    ) -> str:
        script = tmp_path / "program.py"
        script.write_text(
            textwrap.dedent(before)
            + textwrap.dedent(PRELUDE)
            + textwrap.dedent(program)
        )

        def outcome(which: str) -> Outcome:
            process = subprocess.run(
                [sys.executable, *options, str(script), which],
                capture_output=True,
                text=True,
                timeout=120,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            # Not where in the code something failed, nor in which process.
            errors = [
                re.sub(
                    r"^.+?:[0-9]+: (?=\w+Warning: )",
                    "",
                    line.replace(str(tmp_path), ""),
                )
                for line in process.stderr.splitlines()
                if line
                and not line.startswith((" ", "Traceback"))
                # A thread may or may not have ended by then.
                and "is multi-threaded" not in line
            ]
            if not exits_in_order:
                # Where it is collected also decides how often a warning is shown.
                errors = sorted({*errors})
            return process.stdout, "\n".join(errors), process.returncode

        def stock_outcome() -> Outcome:
            what = repr((script.read_text(), options, exits_in_order))
            path = stock_outcomes / hashlib.sha256(what.encode()).hexdigest()
            if not path.exists():
                # Renamed, as another worker may read it while it is written.
                written = tmp_path / path.name
                written.write_text(json.dumps(outcome("stock")))
                written.replace(path)
            stdout, stderr, code = json.loads(path.read_text())
            return stdout, stderr, code

        expected = stock_outcome()
        assert outcome(implementation) == expected
        return expected[0]

    return run


@pytest.mark.parametrize("how", ["send", "send_robust"])
@pytest.mark.parametrize("handler", ["SIGINT", "soft time limit", "exit"])
@pytest.mark.parametrize("does", ["sleeps", "computes", "calls", "awaits a call"])
def test_handlers_that_raise(
    run_alike: Callable[..., str], how: str, handler: str, does: str
) -> None:
    """Comes out of the send; the receiver finishes."""
    said = run_alike(
        f"""
        from tests.contract.interrupts import is_main_thread_waiting

        how, kind, does = {how!r}, {handler!r}, {does!r}

        class SoftTimeLimitExceeded(Exception):
            pass

        def handle(*args):
            if kind == "exit":
                sys.exit(3)
            raise SoftTimeLimitExceeded

        # Shells ignore SIGINT in what they run in the background.
        handlers = {{"SIGINT": signal.default_int_handler}}
        signal.signal(signal.SIGINT, handlers.get(kind, handle))

        started, struck, finished = (threading.Event() for _ in range(3))

        def strike():
            started.wait()
            while does != "awaits a call" and not is_main_thread_waiting():
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            struck.set()

        # The receiver outlasts the strike by this many seconds.
        rest = 0.1

        def work():
            started.set()
            while not struck.is_set():
                sum(range(1000))
            until = time.monotonic() + rest
            while time.monotonic() < until:
                sum(range(1000))

        def sleep():
            started.set()
            struck.wait()
            time.sleep(rest)

        async def receiver(**kwargs):
            try:
                if does == "sleeps":
                    started.set()
                    while not struck.is_set():
                        await asyncio.sleep(0.01)
                    await asyncio.sleep(rest)
                elif does == "computes":
                    work()
                elif does == "calls":
                    await asyncio.to_thread(sleep)
                else:
                    await sync_to_async(work)()
                return "answer"
            except BaseException as error:
                say("receiver", repr(error))
                raise
            finally:
                finished.set()

        made = signal_for(receiver)
        for _ in range(2):
            for event in (started, struck, finished):
                event.clear()
            threading.Thread(target=strike).start()
            try:
                say(answers(getattr(made, how)(Sender)))
            except BaseException as error:
                say("out", repr(error))
            say("finished", finished.wait(5))
        # What was interrupted is in nobody's way.
        does = "sleeps"
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say(answers(getattr(made, how)(Sender)))
        """
    )
    assert said.count("finished True") == 2
    if does != "awaits a call":
        assert said.count("out ") == 2
        assert "receiver" not in said
    assert said.endswith("[\"'answer'\"]\n")


@pytest.mark.parametrize("when", ["first", "later"])
@pytest.mark.parametrize("forks", [False, True])
def test_descriptors_that_a_program_closes(
    run_alike: Callable[..., str], when: str, forks: bool
) -> None:
    """As daemons do. What it opens then is its own."""
    said = run_alike(
        f"""
        when, forks = {when!r}, {forks!r}

        def close():
            os.closerange(3, 256)

        async def receiver(**kwargs):
            await asyncio.sleep(0)
            return await sync_to_async(str)("answer")

        made = signal_for(receiver)
        if when == "later":
            say(answers(made.send(Sender)))
        if forks and os.fork():
            say(os.waitstatus_to_exitcode(os.wait()[1]))
            os._exit(0)
        close()
        files = [open("/dev/null") for _ in range(12)]
        for _ in range(3):
            say(answers(made.send(Sender)))
            say([os.fstat(file.fileno()).st_mode == os.stat("/dev/null").st_mode
                 for file in files])
        sys.stdout.flush()
        os._exit(0)
        """
    )
    assert said.count("'answer'") == (4 if when == "later" else 3)
    assert said.count("True") == 3 * 12
    assert "False" not in said


def test_descriptors_that_a_receiver_closes(run_alike: Callable[..., str]) -> None:
    """With those of its loop: this send fails, and closes files that took their place.

    In another thread, the loop would fail or wait forever, by chance.
    """
    said = run_alike(
        """
        import gc

        # Tasks of the first send are left, which asyncio logs when they are collected.
        gc.disable()
        files = []

        async def closes(**kwargs):
            await asyncio.sleep(0)
            os.closerange(3, 256)
            files.extend(open("/dev/null") for _ in range(12))
            await asyncio.sleep(0)

        async def receiver(**kwargs):
            await asyncio.sleep(0.001)
            return await sync_to_async(str)("answer")

        def is_open(file):
            try:
                return os.fstat(file.fileno()).st_mode == os.stat("/dev/null").st_mode
            except OSError:
                return False

        def send(*receivers):
            try:
                say(answers(signal_for(*receivers).send(Sender)))
            except BaseException as error:
                say(repr(error))
            say([is_open(file) for file in files])

        send(closes, receiver)
        for _ in range(3):
            send(receiver)
        sys.stdout.flush()
        os._exit(0)
        """
    )
    failed, *states = said.splitlines()
    assert failed.startswith("OSError")
    # The later sends close no more.
    assert states[1::2] == ["[\"'answer'\"]"] * 3
    assert len({*states[::2]}) == 1


@pytest.mark.parametrize("earlier", [0, 3])
@pytest.mark.parametrize("waits", [False, True])
def test_sending_from_atexit(
    run_alike: Callable[..., str], earlier: int, waits: bool
) -> None:
    """The executor's error, each time."""
    said = run_alike(
        f"""
        async def receiver(**kwargs):
            await asyncio.sleep(0)
            return "answer"

        made = signal_for(receiver)

        @atexit.register
        def last():
            for how in (made.send, made.send_robust):
                try:
                    say(answers(how(Sender)))
                except BaseException as error:
                    say(repr(error))

        for _ in range({earlier}):
            say(answers(made.send(Sender)))

        async def slow(**kwargs):
            await asyncio.sleep(0.2)
            say("slow is done")

        if {waits}:
            thread = threading.Thread(target=signal_for(slow).send, args=(Sender,))
            thread.daemon = True
            thread.start()
            time.sleep(0.05)
        """
    )
    assert said.count("RuntimeError") == 2


def test_a_thousand_threads_that_sent(run_alike: Callable[..., str]) -> None:
    said = run_alike(
        """
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        threading.stack_size(256 * 1024)
        go = threading.Event()
        ready = threading.Semaphore(0)
        errors = []

        async def receiver(**kwargs):
            return "answer"

        made = signal_for(receiver)
        lock = threading.Lock()

        def send():
            try:
                with lock:
                    assert made.send(Sender) == [(receiver, "answer")]
            except BaseException as error:
                errors.append(repr(error))
            ready.release()
            go.wait()

        threads = [threading.Thread(target=send) for _ in range(1000)]
        for thread in threads:
            thread.start()
            ready.acquire()
        say(errors, len(os.listdir("/proc/self/fd")) < 20)
        go.set()
        """
    )
    assert said == "[] True\n"


@pytest.mark.parametrize("when", ["first", "later"])
def test_fork_in_a_receiver(run_alike: Callable[..., str], when: str) -> None:
    """In its own thread or the sender's, or after a send: the child sends at once."""
    said = run_alike(
        f"""
        async def receiver(**kwargs):
            return await sync_to_async(str)("answer")

        made = signal_for(receiver)
        if {when!r} == "later":
            say(answers(made.send(Sender)))

        def fork(**kwargs):
            if not os.fork():
                say("child", answers(made.send(Sender)))
                os._exit(4)
            return os.waitstatus_to_exitcode(os.wait()[1])

        async def forking(**kwargs):
            return await sync_to_async(fork)()

        async def forking_in_its_thread(**kwargs):
            await asyncio.sleep(0)
            return fork()

        say("parent", answers(signal_for(forking).send(Sender)), fork())
        forking = signal_for(forking_in_its_thread)
        say("parent", answers(forking.send(Sender)), answers(forking.send(Sender)))
        say(answers(made.send(Sender)))
        """
    )
    lines = said.splitlines()
    answer = "[\"'answer'\"]"
    if when == "later":
        assert lines.pop(0) == answer
    children = [f"child {answer}"] * 2
    assert lines == [
        *children,
        "parent ['4'] 4",
        *children,
        "parent ['4'] ['4']",
        answer,
    ]


def test_a_fork_after_a_send_warns_of_nothing(run_alike: Callable[..., str]) -> None:
    """A thread that was kept would have Python warn of deadlocks."""
    said = run_alike(
        """
        async def receiver(**kwargs):
            pass

        signal_for(receiver).send(Sender)
        for _ in range(100):
            if threading.active_count() == 1:
                break
            time.sleep(0.01)
        if not os.fork():
            os._exit(0)
        os.wait()
        say(threading.active_count())
        """,
        "-W",
        "error",
    )
    # On PyPy, the thread ends once its executor is collected.
    assert said == "1\n" or not COUNTS_REFERENCES


def test_what_receivers_keep_by_thread_context_and_loop(
    run_alike: Callable[..., str],
) -> None:
    """Every send has a thread and a loop of its own."""
    said = run_alike(
        """
        data = threading.local()
        variable = contextvars.ContextVar("variable", default="nothing")
        clients = weakref.WeakKeyDictionary()
        class Client: pass
        closed = []
        class Closes:
            def __del__(self): closed.append(True)

        async def receiver(number, **kwargs):
            loop = asyncio.get_running_loop()
            found = hasattr(data, "number"), variable.get(), loop in clients
            data.number = number
            data.connection = Closes()
            variable.set(number)
            clients[loop] = Client()
            try:
                loop.add_signal_handler(signal.SIGTERM, print)
            except (RuntimeError, ValueError) as error:
                refused = type(error).__name__
            return found, refused, threading.current_thread() is threading.main_thread()

        made = signal_for(receiver)
        for number in range(3):
            say(answers(made.send(Sender, number=number)))
            # What a thread keeps goes with it, a moment after the send.
            for _ in range(1000):
                if len(closed) > number:
                    break
                time.sleep(0.01)
            say(len(closed))
        say(signal.getsignal(signal.SIGTERM))
        """
    )
    assert said.count("(False") == 3


def test_what_threads_inherit(run_alike: Callable[..., str]) -> None:
    """From the sender: blocked signals, and functions that trace."""
    said = run_alike(
        """
        async def receiver(**kwargs):
            return signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])

        made = signal_for(receiver)
        say(answers(made.send(Sender)))
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        say(answers(made.send(Sender)))
        seen = set()
        threading.setprofile(lambda frame, *args: seen.add(frame.f_code.co_name))
        made.send(Sender)
        say("receiver" in seen)
        """
    )
    assert said == "['False']\n['True']\nTrue\n"


def test_sqlite_over_an_await(run_alike: Callable[..., str]) -> None:
    said = run_alike(
        """
        import sqlite3

        async def receiver(**kwargs):
            connection = sqlite3.connect(":memory:")
            await asyncio.sleep(0.001)
            await sync_to_async(str)()
            try:
                return connection.execute("SELECT 1").fetchone()
            finally:
                connection.close()

        say(answers(signal_for(receiver).send(Sender)))
        """
    )
    assert said == "['(1,)']\n"


def test_current_task_is_known(run_alike: Callable[..., str]) -> None:
    said = run_alike(
        """
        async def receiver(**kwargs):
            return asyncio.current_task() in asyncio.all_tasks()

        made = signal_for(receiver)
        say(answers(made.send(Sender)), answers(made.send_robust(Sender)))
        """
    )
    assert said == "['True'] ['True']\n"


GREENLETS = {
    "gevent": (
        "import gevent.monkey; gevent.monkey.patch_all()",
        "import gevent; from gevent import joinall as wait, sleep as switch, spawn",
    ),
    "eventlet": (
        """
        import warnings; warnings.simplefilter("ignore")
        import eventlet; eventlet.monkey_patch()
        """,
        """
        import warnings; warnings.simplefilter("ignore")
        import eventlet
        spawn, switch = eventlet.spawn, eventlet.sleep
        def wait(greenlets):
            for greenlet in greenlets: greenlet.wait()
        """,
    ),
}


@pytest.mark.parametrize("kind", GREENLETS)
@pytest.mark.parametrize("patched", [False, True])
@pytest.mark.parametrize("receiver", ["switches", "sleeps", "synchronous"])
def test_greenlets(
    run_alike: Callable[..., str], kind: str, patched: bool, receiver: str
) -> None:
    """With the extension in use, if it's there."""
    if importlib.util.find_spec(kind) is None:
        # Not imported here: eventlet then warns of each fork.
        pytest.skip(f"{kind} is not installed")
    patch, names = GREENLETS[kind]
    said = run_alike(
        textwrap.dedent(names)
        + textwrap.dedent(
            f"""
            notes = []

            async def switches(number, **kwargs):
                notes.append(number)
                switch(0.01)
                return number

            async def sleeps(number, **kwargs):
                notes.append(number)
                await asyncio.sleep(0.01)
                return number

            def synchronous(number, **kwargs):
                notes.append(number)
                switch(0.01)
                return number

            made = signal_for({receiver})

            def send(number):
                try:
                    [(_, answer)] = made.send(Sender, number=number)
                except BaseException as error:
                    answer = type(error).__name__
                notes.append(("answer", answer))

            wait([spawn(send, number) for number in range(3)])
            say(notes)
            """
        ),
        before=patch if patched else "",
        # gevent leaves coroutines, which are told of in the order they are collected.
        exits_in_order=False,
    )
    # Patched, the loop of each send runs in the same thread, which can run only one.
    fails = patched and receiver != "synchronous"
    expected = ["'RuntimeError'", "'RuntimeError'", "0"] if fails else ["0", "1", "2"]
    assert sorted(re.findall(r"'answer', (.+?)\)", said)) == expected
