"""Recursion through signals, in threads with small stacks."""

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
    {again}

def start():
    try:
        {begin}
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
    "not plain": ("signal.send(1.5)", "signal.send(1.5)"),
    "instances": ("Book()", "post_init.connect(receive); Book()"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="its stacks have other sizes")
@pytest.mark.parametrize("kib", [128, 256, 512, 768, 2048])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="PyPy crashes there with stock, too"
)
def test_small_stacks(run_python, implementation, way, kib):
    """The recursion ends by itself, after as many levels as there is room for."""
    if implementation == "python" and kib < (512 if way == "instances" else 256):
        pytest.skip("Python and Django crash, too")
    again, begin = WAYS[way]
    program = RECURSION.format(
        again=again, begin=begin, kib=kib, limit=0, caching=way == "send"
    )
    output = run_python(program)
    assert output in ("RecursionError True\n", "True\n")


@pytest.mark.parametrize("way", ["send", "robust", "not plain"])
def test_raised_recursion_limit(run_python, implementation, way):
    again, begin = WAYS[way]
    program = RECURSION.format(again=again, begin=begin, kib=0, limit=20_000, caching=0)
    assert run_python(program) in ("RecursionError True\n", "True\n")
