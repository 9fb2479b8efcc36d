"""Test recursion through signals in threads with small stacks."""

from __future__ import annotations

import sys

import pytest

RECURSION = """
import sys, threading
import django
from django.conf import settings
settings.configure(DATABASES={{}}, DEFAULT_AUTO_FIELD="django.db.models.AutoField")
django.setup()
from django.db import models
from django.db.models.signals import post_init
from django.dispatch import Signal
import altdispatch

altdispatch.install()
signal = Signal(use_caching={caching})
levels = [0]

class Book(models.Model):
    class Meta:
        app_label = "books"

def receive(**kwargs):
    levels[0] += 1
    {recurse}

class Hashing:
    def __hash__(self):
        levels[0] += 1
        signal.has_listeners(self)
        return 1

def start():
    try:
        {start}
    except RecursionError:
        outcomes.append("RecursionError")

outcomes = []
signal.connect(receive)
if {limit}:
    sys.setrecursionlimit({limit})
if {kib}:
    threading.stack_size({kib} * 1024)
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    start()
print(*outcomes, levels[0] > 10)
"""

WAYS = {
    "send": ("signal.send(Book)", "signal.send(Book)"),
    "robust": ("signal.send_robust(Book)[0][1]", "signal.send_robust(Book)"),
    "other sender": ("signal.send(1.5)", "signal.send(1.5)"),
    "instances": ("Book()", "post_init.connect(receive); Book()"),
    "hash": ("pass", "signal.has_listeners(Hashing())"),
}
#: Those that use more of the stack in pure Python.
HEAVY = ["instances", "hash"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other stack sizes")
@pytest.mark.parametrize("kib", [128, 256, 512, 768, 2048])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="stock Django crashes on PyPy too"
)
def test_small_stacks(run_python, implementation, way, kib):
    """The recursion ends in an error or by itself, after more than ten levels."""
    if implementation == "python" and kib < (512 if way in HEAVY else 256):
        pytest.skip("pure Python crashes too, also on stock Django")
    recurse, start = WAYS[way]
    program = RECURSION.format(
        recurse=recurse, start=start, kib=kib, limit=0, caching=way in ("send", "hash")
    )
    output = run_python(program)
    assert output in ("RecursionError True\n", "True\n")


@pytest.mark.parametrize("way", ["send", "robust", "other sender", "hash"])
def test_raised_recursion_limit(run_python, implementation, way):
    recurse, start = WAYS[way]
    program = RECURSION.format(
        recurse=recurse, start=start, kib=0, limit=20_000, caching=way == "hash"
    )
    assert run_python(program) in ("RecursionError True\n", "True\n")
