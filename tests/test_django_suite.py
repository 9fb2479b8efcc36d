"""Test how ``make django-suite`` compares runs, and which runs it rejects.

No test runs Django's suite: the runs are made up, or are of the tests below.
"""

import copy
import io
import json
import sys
import tarfile
import time
import types
import unittest
from pathlib import Path
from unittest import mock

import pytest

import altdispatch

from . import django_suite as suite
from . import django_suite_recorder as recorder

VERSION = "6.1.3"


def outcome(test, kind="ok", subtest="", detail="", line=""):
    return {
        "test": test,
        "subtest": subtest,
        "kind": kind,
        "detail": detail,
        "line": line,
    }


def made_up_run(side, *outcomes):
    """Return what the recorder would write about a run with these outcomes."""
    outcomes = outcomes or (
        outcome("a.T.test_ok"),
        outcome("a.T.test_bad", "failed", "", "builtins.AssertionError", "one"),
        outcome("a.T.test_skip", "skipped", "", "not here"),
        outcome("a.T.test_sub", subtest="(i=1)"),
        outcome("a.T.test_sub", subtest="(i=2)"),
        outcome("a.T.test_sub"),
    )
    tests = list(dict.fromkeys(each["test"] for each in outcomes))
    return {
        "django": VERSION,
        "python": "3.13.0",
        "database": "SQLite 3.40.1",
        "altdispatch": altdispatch.__version__,
        "status": "made up",
        "left_alone": [],
        "dispatcher": side,
        "dispatchers": {side: len(tests)},
        "processes": 2,
        "stopped": False,
        "failures": sum(each["kind"] in suite.FAILURES for each in outcomes),
        "collected": [*tests, "a.Skipped.test"],
        "outcomes": copy.deepcopy(list(outcomes)),
        "seconds": 1.0,
    }


@pytest.fixture
def runs():
    """Return two made-up runs with the same results."""
    return {side: made_up_run(side) for side in suite.SIDES}


def compare(runs):
    return suite.differences(suite.without_changing_names(runs))


# Compare runs


def test_equal_runs_do_not_differ(runs):
    assert compare(runs) == {}


def test_order_messages_and_seconds_do_not_matter(runs):
    runs["swapped"]["outcomes"].reverse()
    runs["swapped"]["outcomes"][-2]["line"] = "another"
    runs["swapped"]["collected"].reverse()
    runs["swapped"]["seconds"] = 9.0
    assert compare(runs) == {}


@pytest.mark.parametrize(
    ("position", "change", "where", "here", "there"),
    [
        (0, {"kind": "error", "detail": "E"}, "test_ok", ("ok", ""), ("error", "E")),
        (
            0,
            {"kind": "unexpected success"},
            "test_ok",
            ("ok", ""),
            ("unexpected success", ""),
        ),
        (
            1,
            {"detail": "builtins.KeyError"},
            "test_bad",
            ("failed", "builtins.AssertionError"),
            ("failed", "builtins.KeyError"),
        ),
        (
            2,
            {"detail": "why not"},
            "test_skip",
            ("skipped", "not here"),
            ("skipped", "why not"),
        ),
    ],
)
def test_another_outcome_is_a_difference(runs, position, change, where, here, there):
    runs["swapped"]["outcomes"][position].update(change)
    assert compare(runs) == {
        (f"a.T.{where}", ""): {"stock": {here: 1}, "swapped": {there: 1}}
    }


def test_a_failing_subtest_is_a_difference(runs):
    runs["stock"]["outcomes"][4].update(kind="failed", detail="E")
    assert compare(runs) == {
        ("a.T.test_sub", "(i=2)"): {
            "stock": {("failed", "E"): 1},
            "swapped": {("ok", ""): 1},
        }
    }


def test_a_missing_subtest_is_a_difference(runs):
    del runs["swapped"]["outcomes"][4]
    assert compare(runs) == {
        ("a.T.test_sub", suite.CHANGING_NAME): {
            "stock": {("ok", ""): 1},
            "swapped": {},
        }
    }


def test_subtests_with_changing_names_are_compared_without_them(runs):
    for side, run in runs.items():
        run["outcomes"][3]["subtest"] = f"[the time on {side}]"
    assert compare(runs) == {}

    runs["swapped"]["outcomes"][3].update(kind="error", detail="E")
    assert compare(runs) == {
        ("a.T.test_sub", suite.CHANGING_NAME): {
            "stock": {("ok", ""): 1},
            "swapped": {("error", "E"): 1},
        }
    }


def test_a_test_without_outcome_is_a_difference(runs):
    del runs["swapped"]["outcomes"][0]
    assert compare(runs) == {
        ("a.T.test_ok", ""): {
            "stock": {("ok", ""): 1},
            "swapped": {("not run", ""): 1},
        }
    }


def test_a_test_that_is_not_collected_is_a_difference(runs):
    runs["stock"]["collected"].remove("a.Skipped.test")
    assert compare(runs) == {
        ("a.Skipped.test", ""): {"stock": {}, "swapped": {("not run", ""): 1}}
    }


def test_a_test_that_reports_twice_is_a_difference(runs):
    runs["swapped"]["outcomes"].append(outcome("a.T.test_ok"))
    assert compare(runs) == {
        ("a.T.test_ok", ""): {"stock": {}, "swapped": {("ok", ""): 1}}
    }


def test_only_failures_of_both_sides_are_common(runs):
    runs["stock"]["outcomes"][0].update(kind="error", detail="E")
    assert suite.common_failures(runs) == [
        ("a.T.test_bad", "", "failed", "builtins.AssertionError")
    ]


# Reject runs


def objections(side, run, status=1):
    return list(suite.objections(side, run, VERSION, status))


def test_a_whole_run_is_accepted(runs):
    for side, run in runs.items():
        assert objections(side, run) == []


@pytest.mark.parametrize("side", suite.SIDES)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"django": "6.1.2"}, "Django 6.1.2 was tested"),
        ({"stopped": True}, "stopped before its end"),
        ({"failures": 0}, "exit status is 1 with 0 failures"),
        ({"outcomes": []}, "no test ran"),
        ({"collected": []}, "no test ran"),
        ({"dispatcher": "unclear"}, "its dispatcher was unclear"),
        ({"dispatchers": {}}, "3 tests ran, the dispatcher was checked after {}"),
        ({"left_alone": ["send"]}, "patched by others: ['send']"),
    ],
)
def test_a_run_is_rejected(runs, side, change, expected):
    (reason,) = objections(side, runs[side] | change)
    assert expected in reason


@pytest.mark.parametrize(
    ("side", "other"), [tuple(suite.SIDES), tuple(suite.SIDES)[::-1]]
)
def test_a_run_on_the_other_dispatcher_is_rejected(runs, side, other):
    assert any(
        "its dispatcher was" in reason for reason in objections(side, runs[other])
    )


def test_one_test_on_the_other_dispatcher_is_rejected(runs):
    run = runs["swapped"] | {"dispatchers": {"swapped": 50, "stock": 1}}
    (reason,) = objections("swapped", run)
    assert "'stock': 1" in reason


@pytest.mark.parametrize("status", [0, 2, -11])
def test_an_exit_status_that_contradicts_the_outcomes_is_rejected(runs, status):
    (reason,) = objections("stock", runs["stock"], status)
    assert f"exit status is {status}" in reason


def test_a_run_that_only_skips_is_rejected():
    run = made_up_run("stock", outcome("a.T.test", "skipped", "", "no database"))
    assert objections("stock", run, 0) == ["no test ran"]


def test_a_run_that_cannot_load_a_test_is_rejected():
    name = suite.LOAD_FAILURE + "nosuch"
    run = made_up_run(
        "stock", outcome("a.T.test"), outcome(name, "error", "", "E", "ImportError: x")
    )
    assert objections("stock", run) == [f"{name} did not load: ImportError: x"]


# Report the result


def test_the_table_counts_each_kind_on_each_side(runs):
    runs["swapped"]["outcomes"][0].update(kind="error", detail="E")
    rows = [line.split() for line in suite.table(runs)]
    assert rows == [
        ["stock", "swapped"],
        ["tests", "5", "5"],
        ["ok", "2", "1"],
        ["failed", "1", "1"],
        ["skipped", "1", "1"],
        ["subtest", "ok", "2", "2"],
        ["not", "run", "1", "1"],
        ["error", "0", "1"],
        ["seconds", "1.0", "1.0"],
    ]


def test_report_contents(runs):
    runs["swapped"]["outcomes"][0].update(kind="error", detail="E", line="E: why")
    runs["swapped"]["outcomes"][1]["line"] = "two"
    place = suite.Place(None, None, None, ["pylibmc"])
    text = "\n".join(suite.report(place, runs, ["signals"]))
    assert "runtests.py signals\n" in text
    assert "could not be installed: pylibmc\n" in text
    assert "Tests or subtests that differ: 1\n  a.T.test_ok\n" in text
    assert "a.T.test_ok\n    stock    1 x ok\n    swapped  1 x error: E: why\n" in text
    assert text.endswith("a.T.test_bad: failed\n    one\n    two")


def test_the_summary_lists_only_some_differences(runs):
    for number in range(15):
        runs["stock"]["outcomes"].append(outcome(f"b.T.test_{number:02}"))
    lines = list(suite.verdict(runs))
    assert lines[1] == "Tests or subtests that differ: 15"
    assert lines[-2:] == ["  b.T.test_09", "  and 5 more"]


# Exit status


@pytest.fixture
def command(monkeypatch, tmp_path, runs):
    """Return a function that runs the command line with made-up runs."""
    place = suite.Place(tmp_path, None, None, [])
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setattr(suite, "make_environment", lambda folder, version: place)
    monkeypatch.setattr(suite, "install_altdispatch", lambda place: None)
    seen = []

    def run_side(place, side, arguments):
        seen.append((side, arguments))
        if isinstance(runs[side], Exception):
            raise runs[side]
        return runs[side], 1

    def run_command(*arguments):
        seen.clear()
        return suite.main(["--django", VERSION, *arguments]), seen

    monkeypatch.setattr(suite, "run_side", run_side)
    return run_command


def test_same_results_exit_with_0_and_leave_a_report(command, tmp_path, capsys):
    status, seen = command("--parallel", "3", "signals", "dispatch")
    options = ["--settings=django_suite_sqlite", "--noinput", "--parallel=3"]
    assert status == 0
    assert seen == [
        (side, [*options, "signals", "dispatch"]) for side in ("stock", "swapped")
    ]
    assert "No difference: 5 tests" in capsys.readouterr().out
    report = tmp_path / ".django-suite" / VERSION / "report.txt"
    assert "No difference" in report.read_text(encoding="utf-8")


def test_postgresql_uses_its_own_settings_module(command):
    status, seen = command("--postgresql", "signals")
    options = ["--settings=django_suite_postgresql", "--noinput", "signals"]
    assert status == 0
    assert seen == [(side, options) for side in ("stock", "swapped")]


def test_differences_exit_with_1(command, runs, capsys):
    runs["swapped"]["outcomes"][0].update(kind="error", detail="E")
    assert command()[0] == 1
    assert "Tests or subtests that differ: 1\n" in capsys.readouterr().out


@pytest.mark.parametrize("error", [suite.CannotRun("it died"), OSError("it died")])
def test_a_run_that_dies_exits_with_2_and_leaves_no_report(
    command, runs, tmp_path, capsys, error
):
    command()
    runs["swapped"] = error
    assert command()[0] == 2
    assert "it died" in capsys.readouterr().err
    assert not (tmp_path / ".django-suite" / VERSION / "report.txt").exists()


def test_a_rejected_run_exits_with_2(command, runs, capsys):
    runs["swapped"]["dispatcher"] = "stock"
    assert command()[0] == 2
    assert "the swapped run can't be used" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["", "6", "../6.1.3", "6.1.3/..", "6.1; x"])
def test_the_version_must_be_a_version_number(version):
    with pytest.raises(SystemExit) as error:
        suite.parse(["--django", version])
    assert error.value.code == 2


# Run a made-up sdist: the test's script is its runtests.py


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """Return a function that runs a script in place of the suite."""
    sdist = tmp_path / "django.tar.gz"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "nosuch")
    monkeypatch.setattr(suite, "POLL_INTERVAL", 0.05)

    def run(script):
        with tarfile.open(sdist, "w:gz") as archive:
            member = tarfile.TarInfo("django-6.1.3/tests/runtests.py")
            member.size = len(script)
            archive.addfile(member, io.BytesIO(script.encode()))
        place = suite.Place(tmp_path, sys.executable, sdist, [])
        return suite.run_side(place, "stock", ["--noinput"])

    return run


def test_a_finished_run_returns_what_it_wrote(run_script):
    run, status = run_script(
        "import json, os, pathlib, sys\n"
        "file = pathlib.Path(os.environ['DJANGO_SUITE_OUTCOMES'])\n"
        "inherited = sorted({'PYTHONPATH', 'DJANGO_SETTINGS_MODULE'} & {*os.environ})\n"
        "beside = sorted(path.name for path in pathlib.Path().glob('django_suite*'))\n"
        "found = {'argv': sys.argv, 'inherited': inherited, 'beside': beside}\n"
        "file.write_text(json.dumps(found))\n"
        "sys.exit(1)\n"
    )
    assert run.pop("seconds") > 0
    assert run == {
        "argv": ["runtests.py", "--noinput"],
        "inherited": [],
        "beside": [
            "django_suite_postgresql.py",
            "django_suite_recorder.py",
            "django_suite_sqlite.py",
        ],
    }
    assert status == 1


def test_an_old_result_is_not_used_if_the_run_dies(run_script, tmp_path):
    (tmp_path / "stock.json").write_text("{}", encoding="utf-8")
    with pytest.raises(suite.CannotRun, match=r"(?s)exit status 3.*last words"):
        run_script("print('last words'); raise SystemExit(3)")


def test_a_silent_run_is_killed_with_its_children(run_script, monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "MAX_SILENCE", 2)
    pids = tmp_path / "pids"
    with pytest.raises(suite.CannotRun, match="no output for 2 seconds"):
        run_script(
            "import os, time\n"
            f"pids = open({str(pids)!r}, 'a')\n"
            "os.fork()\n"
            "print(os.getpid(), file=pids, flush=True)\n"
            "time.sleep(60)\n"
        )
    parent, child = pids.read_text().split()
    wait_for_end(parent)
    wait_for_end(child)


def wait_for_end(pid, seconds=10):
    """Wait until a process has ended or is a zombie."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            return
        if stat.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still running")


# Record outcomes


class Sample(unittest.TestCase):
    """One test for each outcome; __test__ keeps pytest from collecting it."""

    __test__ = False

    def test_ok(self):
        pass

    def test_failed(self):
        self.fail("first line\nsecond line")

    def test_error(self):
        raise LookupError("no")

    def test_skipped(self):
        self.skipTest("no need")

    @unittest.skip("by decorator")
    def test_skipped_earlier(self):
        self.fail()

    @unittest.expectedFailure
    def test_expected_failure(self):
        raise LookupError

    @unittest.expectedFailure
    def test_unexpected_success(self):
        pass

    def test_subtests(self):
        with self.subTest(i=1):
            pass
        with self.subTest(i=2):
            self.fail()
        with self.subTest(i=3):
            raise LookupError
        with self.subTest(i=4):
            self.skipTest("no four")


class NoSetUp(unittest.TestCase):
    __test__ = False

    @classmethod
    def setUpClass(cls):
        raise LookupError

    def test_never(self):
        self.fail()


HERE = Sample.__module__
SAMPLE = {
    ("Sample.test_ok", "", "ok", ""),
    ("Sample.test_failed", "", "failed", "builtins.AssertionError"),
    ("Sample.test_error", "", "error", "builtins.LookupError"),
    ("Sample.test_skipped", "", "skipped", "no need"),
    ("Sample.test_skipped_earlier", "", "skipped", "by decorator"),
    ("Sample.test_expected_failure", "", "expected failure", "builtins.LookupError"),
    ("Sample.test_unexpected_success", "", "unexpected success", ""),
    ("Sample.test_subtests", "(i=1)", "ok", ""),
    ("Sample.test_subtests", "(i=2)", "failed", "builtins.AssertionError"),
    ("Sample.test_subtests", "(i=3)", "error", "builtins.LookupError"),
    ("Sample.test_subtests", "(i=4)", "skipped", "no four"),
}


def load(case):
    # From some Python release on, unittest's loader obeys __test__.
    names = [name for name in vars(case) if name.startswith("test_")]
    return unittest.TestSuite(map(case, names))


def parent_result(kind):
    return kind(unittest.runner._WritelnDecorator(io.StringIO()), True, 1)


def record_alone(case):
    """Return the result of a run in this process."""
    result = parent_result(recorder.OnlyResult)
    load(case).run(result)
    return result


def record_in_worker(case):
    """Return what the parent process collects from a worker, in one process."""
    tests = load(case)
    # Nothing is pickled in one process, so tblib isn't needed.
    with mock.patch.object(recorder.WorkerResult, "_confirm_picklable"):
        events = recorder.WorkerRunner().run(tests).events
    result = parent_result(recorder.ParentResult)
    parallel = recorder.RecordingParallelSuite([tests], processes=2)
    for event in events:
        parallel.handle_event(result, list(load(case)), event)
    return result


recorded = pytest.mark.parametrize("record", [record_alone, record_in_worker])


@recorded
def test_every_outcome_is_recorded(record):
    result = record(Sample)
    keys = [suite.key(each) for each in result.outcomes]
    assert {(k[0].removeprefix(f"{HERE}."), *k[1:]) for k in keys} == SAMPLE
    assert len(keys) == len(SAMPLE)
    lines = {each["test"].rpartition(".")[2]: each["line"] for each in result.outcomes}
    assert lines["test_failed"] == "AssertionError: first line"
    assert lines["test_ok"] == ""


@recorded
def test_a_class_that_cannot_be_set_up_is_recorded(record):
    result = record(NoSetUp)
    assert [suite.key(each) for each in result.outcomes] == [
        (f"setUpClass ({HERE}.NoSetUp)", "", "error", "builtins.LookupError")
    ]


@recorded
def test_the_dispatcher_is_checked_after_each_test(record):
    assert record(Sample).dispatchers == {"stock": 8}


@recorded
def test_the_swapped_dispatcher_is_seen(record, swapped):
    assert record(Sample).dispatchers == {"swapped": 8}


def test_is_installed_alone_is_not_trusted(monkeypatch):
    impostor = types.SimpleNamespace(is_installed=lambda: True)
    monkeypatch.setitem(sys.modules, "altdispatch", impostor)
    assert recorder.dispatcher_in_use() == "unclear"


def test_a_dispatcher_patched_by_another_package_is_unclear(monkeypatch):
    monkeypatch.setattr("django.dispatch.dispatcher.Signal.send", lambda self: None)
    assert recorder.dispatcher_in_use() == "unclear"


def test_stock_is_recognised_without_importing_altdispatch(monkeypatch):
    monkeypatch.delitem(sys.modules, "altdispatch")
    assert recorder.dispatcher_in_use() == "stock"
    assert "altdispatch" not in sys.modules


def test_only_the_first_runner_writes_and_the_file_is_whole(monkeypatch, tmp_path):
    file = tmp_path / "outcomes.json"
    assert recorder.OUTCOMES == suite.OUTCOMES
    monkeypatch.setenv(recorder.OUTCOMES, str(file))
    runner, nested = recorder.RecordingRunner(), recorder.RecordingRunner()
    assert nested.file is None

    runner.result = record_alone(Sample)
    runner.collected = [each["test"] for each in runner.result.outcomes]
    runner.database = "SQLite 3.40.1"
    runner.write(failures=5)
    assert list(tmp_path.iterdir()) == [file]
    run = json.loads(file.read_text(encoding="utf-8"))
    assert run["outcomes"] == runner.result.outcomes
    assert run["dispatcher"] == "stock"
    assert run["altdispatch"] == altdispatch.__version__
    assert list(suite.objections("stock", run, run["django"], 1)) == []
