"""Which implementation is chosen, and what the extension does for itself."""

from __future__ import annotations

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
def nothing_set(monkeypatch):
    for name in ("ALTDISPATCH_PURE_PYTHON", "ALTDISPATCH_REQUIRE_SPEEDUPS"):
        monkeypatch.delenv(name, raising=False)


@compiled
@pytest.mark.parametrize("value", [None, "", "0"])
def test_compiled_where_it_is_built(run_python, monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", value)
    assert run_python(STATUS) == "c; the extension is there\n[]\n"


@pytest.fixture
def run_without_extension(tmp_path):
    """Run a program with a copy of the package that has no extension."""
    package = shutil.copytree(
        Path(altdispatch.__file__).parent,
        tmp_path / "altdispatch",
        ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"),
    )

    def run(program, exit_code=0):
        process = subprocess.run(
            # Without site, where an editable installation would find the extension.
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
def test_python_where_it_is_not_built(run_without_extension):
    """It says why, and how to get it."""
    output = run_without_extension(STATUS)
    assert output.startswith(
        "python; the extension was not built: when altdispatch was installed there was "
        "no C compiler, "
    )
    assert "ALTDISPATCH_REQUIRE_SPEEDUPS=1" in output
    assert "--no-cache-dir" in output
    assert output.endswith("\n[]\n")


@compiled
def test_python_where_it_is_built_for_another(run_without_extension):
    other = run_without_extension.package / "_speedups.cpython-39-darwin.so"
    other.touch()
    assert run_without_extension(STATUS) == (
        "python; the extension was not built for this Python, but for another "
        "(_speedups.cpython-39-darwin.so): install altdispatch with this Python\n[]\n"
    )


@pytest.mark.skipif(
    sys.implementation.name == "cpython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="the extension is for this Python",
)
def test_python_that_the_extension_is_not_for(run_python):
    reason = run_python(STATUS).splitlines()[0]
    assert reason.startswith("python; the extension was not built: it is only for ")


def test_free_threaded_python(monkeypatch):
    monkeypatch.setattr(sys.implementation, "name", "cpython")
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    assert implementations._why_not_built() == (
        "the extension was not built: it is only for Python with the GIL, and this is "
        "a free-threaded build"
    )


def test_python_where_the_environment_asks_for_it(run_python, monkeypatch):
    monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", "1")
    loaded = "import sys\nprint('altdispatch._speedups' in sys.modules)"
    output = run_python(STATUS + loaded)
    assert output == "python; ALTDISPATCH_PURE_PYTHON is set\n[]\nFalse\n"


def test_python_where_it_can_not_be_loaded(run_python):
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
def test_required_and_there(run_python, monkeypatch):
    monkeypatch.setenv("ALTDISPATCH_REQUIRE_SPEEDUPS", "1")
    assert run_python(STATUS).startswith("c; ")


@compiled
@pytest.mark.parametrize(
    ("pure_python", "reason"),
    [("0", "the extension was not built: "), ("1", "ALTDISPATCH_PURE_PYTHON is set.")],
)
def test_required_and_not_there(
    run_without_extension, monkeypatch, pure_python, reason
):
    monkeypatch.setenv("ALTDISPATCH_REQUIRE_SPEEDUPS", "1")
    monkeypatch.setenv("ALTDISPATCH_PURE_PYTHON", pure_python)
    output = run_without_extension(STATUS, exit_code=1)
    assert f"ImportError: ALTDISPATCH_REQUIRE_SPEEDUPS is set, but {reason}" in output


@compiled
def test_these_tests_run_with_both():
    assert set(IMPLEMENTATIONS) == {"c", "python"}
    assert altdispatch.Signal is IMPLEMENTATIONS["c"].Signal
    assert issubclass(altdispatch.Signal, IMPLEMENTATIONS["python"].Signal)


@compiled
def test_compile_leaves_other_functions_as_they_are():
    from altdispatch import _speedups

    def connect():
        return "answer"

    assert _speedups.compile(connect) is connect
    assert connect() == "answer"
    with pytest.raises(TypeError, match="1 is not a function"):
        _speedups.compile(1)


@compiled
def test_a_method_put_in_the_place_of_ours_is_not_compiled(monkeypatch):
    """It's grafted with what it does, though it has the name of a compiled one."""

    def send(self, sender, **named):
        return "somebody else's"

    monkeypatch.setattr(altdispatch.Signal, "send", send)
    signal = django.dispatch.Signal()
    assert altdispatch.install()
    try:
        assert signal.send(None) == "somebody else's"
    finally:
        altdispatch.uninstall()


@compiled
@pytest.mark.skipif(sys.version_info < (3, 12), reason="differs on 3.11")
def test_compiled_methods_are_functions():
    for name in ("has_listeners", "send", "send_robust", "_live_receivers"):
        assert type(vars(altdispatch.Signal)[name]) is FunctionType


@compiled
def test_a_second_import_is_refused(run_python):
    """There's one state in a process: with a second one, both would go wrong."""
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
        print(len(signal.send("goes on")))
        """
    )
    assert "another interpreter of this process has it" in output
    assert output.endswith("\n1\n")


@compiled
def test_a_reload_goes_on_in_python(run_python):
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
def test_what_outlives_the_module_goes_on_in_python(run_python):
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
    """Return CPython's module for interpreters, whatever it's called here."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return __import__(name)
        except ImportError:
            pass
    return None


@compiled
@pytest.mark.skipif(subinterpreter_module() is None, reason="no such module")
@pytest.mark.parametrize("own_gil", [False, True])
def test_another_interpreter_dispatches_in_python(run_python, own_gil):
    """It says why; the first one is as it was."""
    if own_gil and sys.version_info < (3, 12):
        pytest.skip("there's one GIL")
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
    reason, there, here = output.splitlines()
    if own_gil:
        refused = "module altdispatch._speedups does not support loading in subinter"
    else:
        refused = "another interpreter of this process has it, or an earlier import. "
    assert reason.startswith(f"the extension can't be loaded: {refused}")
    assert (there, here) == ("python []", "c []")


def test_status_names_the_implementation_and_why(implementation):
    status = altdispatch.status()
    chosen = implementations.in_use
    assert (status.implementation, status.reason) == (chosen.name, chosen.reason)
    assert f"implementation: {chosen.name} ({chosen.reason})" in str(status)
    assert os.environ["ALTDISPATCH_PURE_PYTHON"] == str(int(implementation == "python"))


LOCKS = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
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
            Lock.locked = lambda self: self.real.locked()  # As threading needs it.
        allocate = _thread.allocate_lock
        _thread.LockType = threading.Lock = Lock
    """,
}


@compiled
@pytest.mark.parametrize("kind", LOCKS)
def test_any_lock_will_do(run_python, kind):
    """The extension is loaded, and sends, also where threading is patched."""
    if kind == "gevent":
        pytest.importorskip("gevent")
    program = """
        import sys
        import altdispatch
        import django.dispatch

        def receiver(**kwargs):
            return "answer"

        altdispatch.install()
        print(altdispatch.status().implementation)
        for caching in (False, True):
            signal = django.dispatch.Signal(use_caching=caching)
            signal.connect(receiver, sender=object)
            for sender in (object, int) * 2:
                for how in (signal.send, signal.send_robust):
                    print(*(answer for _, answer in how(sender)), end=";")
                print(signal.has_listeners(sender))
            with signal.lock:
                pass
            assert signal.disconnect(receiver, sender=object)
    """
    output = run_python(textwrap.dedent(LOCKS[kind]) + textwrap.dedent(program))
    assert output == "c\n" + "answer;answer;True\n;;False\n" * 4
