"""Test which implementation is chosen, and how the extension is loaded."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from types import FunctionType

import django.dispatch
import pytest

import altdispatch
from altdispatch import implementations

from .implementations import IMPLEMENTATIONS

compiled = pytest.mark.skipif(
    "c" not in IMPLEMENTATIONS, reason="the extension isn't built"
)

STATUS = """
import altdispatch

status = altdispatch.status()
print(status.implementation, status.reason, sep="; ")
print(altdispatch.Signal().send(object()))
"""


@pytest.fixture(autouse=True)
def unset_variables(monkeypatch):
    for name in ("ALTDISPATCH_PURE_PYTHON", "ALTDISPATCH_REQUIRE_SPEEDUPS"):
        monkeypatch.delenv(name, raising=False)


@compiled
@pytest.mark.parametrize("value", [None, "", "0"])
def test_extension_is_used_if_it_is_built(run_python, monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", value)
    assert run_python(STATUS) == "c; the extension is there\n[]\n"


@pytest.fixture
def run_without_extension(tmp_path):
    """Return a function that runs a program with a copy without the extension."""
    package = shutil.copytree(
        Path(altdispatch.__file__).parent,
        tmp_path / "altdispatch",
        ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"),
    )

    def run(program, exit_code=0):
        process = subprocess.run(
            # With site, an editable installation would provide the extension.
            [sys.executable, "-S", "-c", program],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [str(package.parent), sysconfig.get_path("purelib")]
                ),
            },
        )
        assert process.returncode == exit_code, process.stderr
        return process.stdout + process.stderr

    run.package = package
    return run


@compiled
def test_python_if_the_extension_is_not_built(run_without_extension):
    """The reason says why, and how to get the extension."""
    output = run_without_extension(STATUS)
    assert output.startswith(
        "python; the extension was not built: when altdispatch was installed there was "
        "no C compiler, "
    )
    assert "ALTDISPATCH_REQUIRE_SPEEDUPS=1" in output
    assert "--no-cache-dir" in output
    assert output.endswith("\n[]\n")


@compiled
def test_python_if_built_for_another_python(run_without_extension):
    other = run_without_extension.package / "_speedups.cpython-39-darwin.so"
    other.touch()
    assert run_without_extension(STATUS) == (
        "python; the extension was not built for this Python, but for another "
        "(_speedups.cpython-39-darwin.so): install altdispatch with this Python\n[]\n"
    )


@pytest.mark.skipif(
    sys.implementation.name == "cpython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="the extension supports this Python",
)
def test_python_that_the_extension_does_not_support(run_python):
    reason = run_python(STATUS).splitlines()[0]
    assert reason.startswith("python; the extension was not built: it is only for ")


def test_free_threaded_python(monkeypatch):
    monkeypatch.setattr(sys.implementation, "name", "cpython")
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    assert implementations._why_not_built() == (
        "the extension was not built: it is only for Python with the GIL, and this is "
        "a free-threaded build"
    )


def test_python_if_the_environment_asks_for_it(run_python, monkeypatch):
    monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", "1")
    loaded = "import sys\nprint('altdispatch._speedups' in sys.modules)"
    output = run_python(STATUS + loaded)
    assert output == "python; ALTDISPATCH_PURE_PYTHON is set\n[]\nFalse\n"


def test_python_if_the_extension_cannot_be_loaded(run_python):
    output = run_python(
        f"""
        import sys
        from importlib.abc import MetaPathFinder

        class Broken(MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == "altdispatch._speedups":
                    raise ImportError("wrong symbols")

        sys.meta_path.insert(0, Broken())
        exec({STATUS!r})
        """
    )
    assert output == "python; the extension can't be loaded: wrong symbols\n[]\n"


@compiled
def test_required_and_built(run_python, monkeypatch):
    monkeypatch.setenv("ALTDISPATCH_REQUIRE_SPEEDUPS", "1")
    assert run_python(STATUS).startswith("c; ")


@compiled
@pytest.mark.parametrize(
    ("pure_python", "reason"),
    [("0", "the extension was not built: "), ("1", "ALTDISPATCH_PURE_PYTHON is set.")],
)
def test_required_and_not_built(
    run_without_extension, monkeypatch, pure_python, reason
):
    monkeypatch.setenv("ALTDISPATCH_REQUIRE_SPEEDUPS", "1")
    monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", pure_python)
    output = run_without_extension(STATUS, exit_code=1)
    assert f"ImportError: ALTDISPATCH_REQUIRE_SPEEDUPS is set, but {reason}" in output


@compiled
def test_the_tests_run_on_both():
    assert set(IMPLEMENTATIONS) == {"c", "python"}
    assert altdispatch.Signal is IMPLEMENTATIONS["c"].Signal
    assert issubclass(altdispatch.Signal, IMPLEMENTATIONS["python"].Signal)


@compiled
def test_compile_ignores_other_functions():
    from altdispatch import _speedups

    def connect():
        return "answer"

    assert _speedups.compile(connect) is connect
    assert connect() == "answer"
    with pytest.raises(TypeError, match="1 is not a function"):
        _speedups.compile(1)


@compiled
def test_a_method_that_replaces_ours_is_not_compiled(monkeypatch):
    """The swap uses the replacement, although it has the name of a compiled method."""

    def send(self, sender, **named):
        return "replacement"

    monkeypatch.setattr(altdispatch.Signal, "send", send)
    signal = django.dispatch.Signal()
    assert altdispatch.install()
    try:
        assert signal.send(None) == "replacement"
    finally:
        altdispatch.uninstall()


@compiled
@pytest.mark.skipif(sys.version_info < (3, 12), reason="differs on 3.11")
def test_compiled_methods_are_functions():
    for name in ("has_listeners", "send", "send_robust", "_live_receivers"):
        assert type(vars(altdispatch.Signal)[name]) is FunctionType


@compiled
def test_a_second_import_is_rejected(run_python):
    """The extension has one state per process, which a second module would break."""
    output = run_python(
        """
        import sys
        import altdispatch

        first = sys.modules.pop("altdispatch._speedups")
        try:
            import altdispatch._speedups
        except ImportError as error:
            print(error)
        signal = altdispatch.Signal()
        signal.connect(lambda **kwargs: None, weak=False)
        print(len(signal.send("still works")))
        """
    )
    assert "another interpreter in this process already uses the extension" in output
    assert output.endswith("\n1\n")


@compiled
def test_a_reload_uses_python(run_python):
    output = run_python(
        """
        import sys
        import altdispatch

        for name in [name for name in sys.modules if name.startswith("altdispatch")]:
            del sys.modules[name]
        import altdispatch as again

        print(altdispatch.status().implementation, again.status().implementation)
        print(again.status().reason)
        """
    )
    assert output.startswith("c python\nthe extension can't be loaded: another ")


@compiled
@pytest.mark.parametrize("method", ["has_listeners", "_live_receivers", "send"])
def test_hash_that_releases_the_module(run_python, method):
    output = run_python(
        f"""
        import gc, sys, weakref
        import altdispatch

        Signal = altdispatch.Signal
        signal = Signal(use_caching=True)
        signal.connect(lambda **kwargs: 1, weak=False)
        call = Signal.{method}
        modules = [name for name in sys.modules if name.startswith("altdispatch")]
        module = weakref.ref(sys.modules["altdispatch._speedups"])
        del altdispatch, Signal

        class Releasing:
            def __hash__(self):
                while modules:
                    name = modules.pop()
                    variables = vars(sys.modules.pop(name))
                    if name != "altdispatch._speedups":
                        variables.clear()
                gc.collect()
                # Use the memory again.
                [bytearray(60_000) for _ in range(50)]
                return 1

        try:
            call(signal, Releasing())
        except Exception as error:
            print(type(error).__name__)
        gc.collect()
        # Before Python 3.12, the method that was called keeps the module.
        print(module() is None or sys.version_info < (3, 12))
        """
    )
    assert output.endswith("True\n")


@compiled
def test_signals_that_outlive_the_module_use_python(run_python):
    output = run_python(
        """
        import gc, sys
        import altdispatch

        Signal = altdispatch.Signal
        for name in [name for name in sys.modules if name.startswith("altdispatch")]:
            del sys.modules[name]
        del altdispatch
        for _ in range(3):
            gc.collect()
        def receiver(**kwargs):
            return "answer"
        signals = Signal(), Signal(use_caching=True)
        for signal in signals:
            signal.connect(receiver)
            for _ in range(3):
                print(signal.send(Signal), signal.has_listeners(Signal))
        """
    )
    assert output.count("'answer')] True") == 6


def subinterpreter_module():
    """Return CPython's module for interpreters, whose name depends on the release."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return __import__(name)
        except ImportError:
            pass
    return None


@compiled
@pytest.mark.skipif(subinterpreter_module() is None, reason="no such module")
@pytest.mark.parametrize("own_gil", [False, True])
def test_a_subinterpreter_uses_python(run_python, own_gil):
    """Its reason says why, and the first interpreter doesn't change."""
    if own_gil and sys.version_info < (3, 12):
        pytest.skip("Python 3.11 has one GIL for all interpreters")
    output = run_python(
        f"""
        import sys
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import altdispatch

        def create():
            if sys.version_info >= (3, 13):
                return interpreters.create("isolated" if {own_gil} else "legacy")
            return interpreters.create(isolated={own_gil})

        code = '''
        import altdispatch
        status = altdispatch.status()
        print(status.reason, flush=True)
        print(status.implementation, altdispatch.Signal().send(1), flush=True)
        '''
        import textwrap
        other = create()
        interpreters.run_string(other, textwrap.dedent(code))
        interpreters.destroy(other)
        print(altdispatch.status().implementation, altdispatch.Signal().send(1))
        """
    )
    reason, in_subinterpreter, in_main = output.splitlines()
    if own_gil:
        rejected = "module altdispatch._speedups does not support loading in subinter"
    else:
        rejected = "another interpreter in this process already uses the extension, or "
    assert reason.startswith(f"the extension can't be loaded: {rejected}")
    assert (in_subinterpreter, in_main) == ("python []", "c []")


def test_status_has_the_implementation_and_the_reason(implementation):
    status = altdispatch.status()
    chosen = implementations.in_use
    assert (status.implementation, status.reason) == (chosen.name, chosen.reason)
    assert f"implementation: {chosen.name} ({chosen.reason})" in str(status)
    assert os.environ["ALTDISPATCH_PURE_PYTHON"] == str(int(implementation == "python"))


LOCKS = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": """
        import warnings; warnings.simplefilter("ignore")
        import eventlet; eventlet.monkey_patch()
    """,
    "reentrant": "import threading; threading.Lock = threading.RLock",
    "bare": """
        import _thread, asyncio, concurrent.futures.thread, sys, threading

        class Lock:
            def __init__(self):
                self.real = allocate()
            def acquire(self, blocking=True, timeout=-1):
                return self.real.acquire(blocking, timeout)
            def release(self):
                self.real.release()
            def __enter__(self):
                return self.acquire()
            def __exit__(self, *args):
                self.release()

        if sys.version_info >= (3, 14):
            Lock.locked = lambda self: self.real.locked()  # threading needs it.
        allocate = _thread.allocate_lock
        _thread.LockType = threading.Lock = Lock
    """,
}


@compiled
@pytest.mark.parametrize("kind", LOCKS)
def test_other_types_of_locks(run_python, kind):
    """The extension is loaded and works if threading's locks are patched.

    It runs the sends, so that none has a stack frame, unless locks can't be asked
    whether they are held.
    """
    # Not imported here: eventlet then warns of each fork.
    if kind in ("gevent", "eventlet") and importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    program = """
        import sys
        import altdispatch
        import django.dispatch

        callers = set()

        def receiver(**kwargs):
            callers.add(sys._getframe(1).f_code.co_name)
            return "answer"

        altdispatch.install()
        print(altdispatch.status().implementation)
        for caching in (False, True):
            signal = django.dispatch.Signal(use_caching=caching)
            signal.connect(receiver, sender=object)
            for sender in (object, int) * 2:
                for how in (signal.send, signal.send_robust):
                    print(*(response for _, response in how(sender)), end=";")
                print(signal.has_listeners(sender))
            with signal.lock:
                pass
            assert signal.disconnect(receiver, sender=object)
        print(callers)
    """
    output = run_python(textwrap.dedent(LOCKS[kind]) + textwrap.dedent(program))
    *answers, callers = output.splitlines()
    assert answers == ["c", *["answer;answer;True", ";;False"] * 4]
    if kind != "bare":
        assert callers == "{'<module>'}"
