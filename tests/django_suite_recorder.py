"""A test runner for Django's own suite that writes every outcome to a file.

``django_suite.py`` copies this module beside Django's ``runtests.py`` and names
``RecordingRunner`` in the settings. Each process records the outcomes of its own tests,
as only it knows them all: Django's parallel runner drops subtests that succeed, and on
some releases of Python it gives skips to the wrong test.
"""

import json
import os
import platform
import sys
import traceback
import unittest
from collections import Counter
from pathlib import Path

import django
from django.db import connection
from django.dispatch import dispatcher
from django.test.runner import (
    DiscoverRunner,
    ParallelTestSuite,
    RemoteTestResult,
    RemoteTestRunner,
)
from django.test.utils import iter_test_cases

OUTCOMES = "DJANGO_SUITE_OUTCOMES"


def dispatcher_in_use():
    """Return "stock" or "swapped", or "unclear" if altdispatch and Django disagree.

    It doesn't import altdispatch, as that would change the stock run.
    """
    altdispatch = sys.modules.get("altdispatch")
    installed = altdispatch is not None and altdispatch.is_installed()
    code = getattr(dispatcher.Signal.send, "__code__", None)
    is_djangos = code is not None and code.co_filename == dispatcher.__file__
    if installed == is_djangos:
        return "unclear"
    return "swapped" if installed else "stock"


def describe(error):
    """Return the full name of an error's type and the first line of its message."""
    kind, value, _ = error
    text = "".join(traceback.format_exception_only(kind, value))
    return f"{kind.__module__}.{kind.__qualname__}", text.partition("\n")[0]


class Recording:
    """Mix-in for test results: pass each outcome to ``keep`` as a dict."""

    def record(self, test, kind, *, subtest=None, reason="", error=None):
        if isinstance(test, unittest.case._SubTest):
            test, subtest = test.test_case, test
        detail, line = describe(error) if error else (reason, "")
        part = subtest.id().removeprefix(test.id()).strip() if subtest else ""
        self.keep(
            {
                "test": test.id(),
                "subtest": part,
                "kind": kind,
                "detail": detail,
                "line": line,
            }
        )

    def addSuccess(self, test):
        super().addSuccess(test)
        self.record(test, "ok")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.record(test, "failed", error=err)

    def addError(self, test, err):
        super().addError(test, err)
        self.record(test, "error", error=err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.record(test, "skipped", reason=reason)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.record(test, "expected failure", error=err)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.record(test, "unexpected success")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is None:
            kind = "ok"
        else:
            kind = "failed" if issubclass(err[0], test.failureException) else "error"
        self.record(test, kind, subtest=subtest, error=err)

    def stopTest(self, test):
        super().stopTest(test)
        self.observe(dispatcher_in_use())


class WorkerResult(Recording, RemoteTestResult):
    """Send outcomes to the parent process, among Django's own events."""

    def keep(self, outcome):
        self.events.append(("receive_outcome", self.test_index, outcome))

    def observe(self, used):
        self.events.append(("receive_dispatcher", self.test_index, used))


class WorkerRunner(RemoteTestRunner):
    resultclass = WorkerResult


class RecordingParallelSuite(ParallelTestSuite):
    runner_class = WorkerRunner


class ParentResult(unittest.TextTestResult):
    """Collect the outcomes of the workers, and ignore the test in their events."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.outcomes = []
        self.dispatchers = Counter()

    def receive_outcome(self, test, outcome):
        self.outcomes.append(outcome)

    def receive_dispatcher(self, test, used):
        self.dispatchers[used] += 1


class OnlyResult(Recording, ParentResult):
    """Record and collect outcomes in a run without workers."""

    def keep(self, outcome):
        self.outcomes.append(outcome)

    def observe(self, used):
        self.dispatchers[used] += 1


class RecordingRunner(DiscoverRunner):
    """Run tests as DiscoverRunner does, then write the file.

    The runner removes the name of the file from the environment, so that runners which
    tests create write nothing.
    """

    parallel_test_suite = RecordingParallelSuite

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.file = os.environ.pop(OUTCOMES, None)

    def get_resultclass(self):
        return ParentResult if self.parallel > 1 else OnlyResult

    def build_suite(self, *args, **kwargs):
        suite = super().build_suite(*args, **kwargs)
        self.collected = [test.id() for test in iter_test_cases(suite)]
        return suite

    def run_suite(self, suite, **kwargs):
        self.result = super().run_suite(suite, **kwargs)
        # The database is destroyed after this.
        version = ".".join(map(str, connection.get_database_version()))
        self.database = f"{connection.display_name} {version}"
        return self.result

    def run_tests(self, *args, **kwargs):
        failures = super().run_tests(*args, **kwargs)
        if self.file is not None:
            self.write(failures)
        return failures

    def write(self, failures):
        altdispatch = sys.modules.get("altdispatch")
        status = altdispatch and altdispatch.status()
        contents = {
            "django": django.get_version(),
            "python": platform.python_version(),
            "database": self.database,
            "altdispatch": altdispatch and altdispatch.__version__,
            "status": str(status),
            "left_alone": sorted(status.left_alone) if status else [],
            "dispatcher": dispatcher_in_use(),
            "dispatchers": dict(self.result.dispatchers),
            "processes": max(self.parallel, 1),
            "stopped": self.result.shouldStop,
            "failures": failures,
            "collected": self.collected,
            "outcomes": self.result.outcomes,
        }
        # Rename it when it is complete, so that an incomplete file is never read.
        unfinished = Path(f"{self.file}.unfinished")
        unfinished.write_text(json.dumps(contents, indent=0), encoding="utf-8")
        unfinished.replace(self.file)
