"""The benchmarks run, and measure what the names of their rows say.

Nothing here looks at how long anything takes.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

pyperf = pytest.importorskip("pyperf", reason="the benchmarks need pyperf")

ROOT = Path(__file__).resolve().parent.parent

# Do every row once, and print what it did: the answer, whether its clock ran, and
# whether it has a plain loop to be compared with. The rows with 10,000 senders would
# take stock minutes, so their clock is not tried.
PROBE = """
import json, sys
from benchmarks import run, shop, variants

shop.set_up()
variants.VARIANTS[sys.argv[1]]()
rows = {}
for question in run.QUESTIONS:
    for row in question.ROWS:
        with row.prepare() as body:
            timed = "10,000 senders" in row.name or body.time(1) > 0
            plain = body.plain is not None and body.plain(1) > 0
            rows[row.name] = [body.answer(), timed, plain]
json.dump(rows, sys.stdout)
"""


def python(*arguments):
    """Run Python in the project's folder and return what it printed."""
    process = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def probed():
    """What every row does, on stock and swapped."""
    return {
        variant: json.loads(python("-c", PROBE, variant))
        for variant in ("stock", "python")
    }


@pytest.fixture
def report(monkeypatch):
    """The module that makes the table."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import report

    return report


def test_every_row_does_the_same_on_stock_and_swapped(probed):
    assert probed["stock"] == probed["python"]


def test_every_row_is_timed(probed):
    assert [name for name, (_, timed, _) in probed["python"].items() if not timed] == []


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("send, caching, no receivers", "[]"),
        ("send, caching, 1 receiver", "[0]"),
        ("send, caching, 3 receivers", "[0, 1, 2]"),
        ("send, not caching, 10 receivers", str(list(range(10)))),
        ("send, not caching, 100 receivers", str(list(range(100)))),
        ("send, caching, 100 of another sender", "[]"),
        ("send, not caching, 3 of every sender", "[0, 1, 2]"),
        ("send, caching, 3 bound methods", "[0, 1, 2]"),
        ("send_robust, not caching, 3 receivers", "[0, 1, 2]"),
        ("has_listeners, caching, no receiver", "False"),
        ("has_listeners, caching, 3 receivers", "True"),
        ("has_listeners, not caching, 3 of another sender", "False"),
        ("asend, no receivers", "[]"),
        ("asend, 10 asynchronous receivers", str(list(range(10)))),
        ("asend, 10 that suspend once", str(list(range(10)))),
        ("asend, 1 synchronous receiver", "[0]"),
        ("send, 1 asynchronous receiver", "[0]"),
        ("send, 1 that awaits sync_to_async() once", "[0]"),
        ("connect, 100 senders", "20 connected, 20 heard"),
        ("first send, 1,000 senders", "20 connected, 20 heard"),
        ("disconnect, 10,000 senders", "0 connected, 0 heard"),
        ("disconnect in reverse, 10,000 senders", "0 connected, 0 heard"),
        ("read an instance, no receiver", "10000 read, 0 heard"),
        ("read an instance, 1 receiver on another model", "10000 read, 0 heard"),
        ("read an instance, 1 receiver on this model", "10000 read, 10000 heard"),
        ("save, 3 receivers before and 3 after", "6 heard"),
        ("request, a line of text", "200 OK Welcome to the shop."),
    ],
)
def test_a_row_does_what_its_name_says(probed, name, answer):
    assert probed["python"][name][0] == answer


def test_the_page_has_its_instances(probed):
    answer = probed["python"]["request, a page of 25 instances"][0]
    assert answer.startswith("200 OK")
    assert answer.count("<li>") == 25


def test_rows_that_call_receivers_have_a_plain_loop(probed):
    with_plain = {name for name, (_, _, plain) in probed["python"].items() if plain}
    heard = {
        name
        for name, (answer, _, _) in probed["python"].items()
        if name.startswith("send") and "async" not in name and answer != "[]"
    }
    assert with_plain == heard != set()


def test_the_runner_measures_the_rows_that_are_asked_for(tmp_path):
    names = ["send, caching, 3 receivers", "save, 3 receivers before and 3 after"]
    printed = python(
        ROOT / "benchmarks" / "run.py",
        "--quick",
        "--rounds=2",
        f"--only=^({'|'.join(names)})$",
        f"--output={tmp_path / 'values'}",
        f"--table={tmp_path / 'tables' / 'table.rst'}",
    )
    lines = [line for line in printed.splitlines() if line.startswith(tuple(names))]
    assert [line.split("  ")[0] for line in lines] == names
    table = (tmp_path / "tables" / "table.rst").read_text()
    assert all(f"   * - {name}\n" in table for name in names)
    assert table.count(".. list-table::") == 2
    for variant in ("stock", "python"):
        suite = pyperf.BenchmarkSuite.load(str(tmp_path / "values" / f"{variant}.json"))
        assert suite.get_benchmark_names() == [
            names[0],
            f"{names[0]}, plain loop",
            names[1],
        ]
        assert {benchmark.get_nrun() for benchmark in suite} == {2}


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts files there")
def test_the_server_for_the_load(monkeypatch):
    pytest.importorskip("uvicorn", reason="it serves by that")
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import load

    for options in load.SETUPS.values():
        with load.serving("python", *options) as server:
            pages = []
            for path in load.PATHS.values():
                with urlopen(server.url + path) as answer:
                    pages.append(answer.read().decode())
            with urlopen(f"{server.url}/counts") as answer:
                counts = ast.literal_eval(answer.read().decode())
            assert server.cpu_seconds() > 0
        assert pages[0] == "Welcome to the shop."
        assert [page.count("<li>") for page in pages[1:]] == [25, 25]
        assert min(counts.values()) > 0


def test_what_wrk_calls_a_time(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import load

    times = [load.milliseconds(text) for text in ("12.50ms", "250.00us", "1.20s")]
    assert times == [12.5, 0.25, 1200]


def test_tables_of_loads(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.load import Load, make_tables

    stock = [Load(100, 5, 9, 0.5), Load(50, 6, 8, 1), Load(200, 7, 7, 0.25)]
    swapped = [Load(110, 4, 8, 0.4), Load(60, 4, 7, 0.5), Load(400, 3, 6, 0.25)]
    tables = [*make_tables({"a page": {"stock": stock, "c": swapped}})]
    rows = [table.partition("   * - a page\n")[2].split() for table in tables]
    assert [row[1::2] for row in rows] == [
        ["100", "1.20", "1.10", "2.00"],
        ["0.50", "1.25", "1.00", "2.00"],
        ["6.0", "4.0"],
        ["8.0", "7.0"],
    ]
    assert "     - c, worst\n     - c, best\n" in tables[0]


def test_a_worker_that_fails_fails_the_runner(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.processes import Worker

    with (
        pytest.raises(subprocess.CalledProcessError),
        Worker(["no such variant"], number=1) as worker,
    ):
        worker.turn("prepare")


def test_heavy_rows_are_measured_in_fewer_rounds(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import run

    measured = []

    def note_round(question, names, files, effort, number):
        measured.append((number, names))

    monkeypatch.setattr(run, "run_round", note_round)
    monkeypatch.setattr(run, "make_report", lambda suites, groups: groups)
    monkeypatch.setattr(run.pyperf.BenchmarkSuite, "load", lambda file: file)
    groups = run.run(
        only="^connect, 10",
        effort=run.Effort(rounds=3, heavy_rounds=1),
        folder=tmp_path / "values",
    )
    both = ["connect, 100 senders", "connect, 10,000 senders"]
    assert measured == [(1, both), (2, both[:1]), (3, both[:1])]
    assert groups == {"Connecting many senders": both}


def test_a_pattern_without_a_row_is_an_error(tmp_path):
    process = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "run.py",
            "--only=no such row",
            f"--output={tmp_path / 'values'}",
        ],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert "no row has a name that matches 'no such row'" in process.stderr
    assert not (tmp_path / "values").exists()


def suite(name, rounds, answer="same"):
    """Return a suite with one benchmark that has these values in its rounds."""
    facts = {"name": name, "answer": answer, "dispatcher": "x", "django_version": "6"}
    return pyperf.BenchmarkSuite(
        [pyperf.Benchmark([pyperf.Run(values, metadata=facts) for values in rounds])]
    )


def test_a_ratio_compares_neighbours_and_then_rounds(report):
    # The machine is at half speed in the second value, and in the whole last round.
    line = report.make_line(
        {
            "stock": suite("send", [[2.0, 4.0, 2.0], [3.0, 6.0, 3.0], [8.0, 8.0, 8.0]]),
            "python": suite(
                "send", [[1.0, 2.0, 1.0], [1.0, 2.0, 1.0], [2.0, 2.0, 8.0]]
            ),
        },
        "send",
    )
    assert line.ratios == {"python": report.Ratio(median=3.0, low=2.0, high=4.0)}
    assert line.cells() == ["send", "2.00 sec", "3.00 (2.00 to 4.00)", ""]
    assert line.single_figures() == ["send", "2.00 sec", "3.00", "33%", ""]


def test_the_plain_loop_is_compared_within_the_baseline(report):
    suites = {
        "stock": suite("send", [[6.0, 12.0]]),
        "python": suite("send", [[3.0, 6.0]]),
    }
    suites["stock"].add_runs(suite("send, plain loop", [[1.5, 3.0]]))
    suites["python"].add_runs(suite("send, plain loop", [[1.0, 1.0]]))
    assert report.make_line(suites, "send").plain == 4.0


def test_variants_that_do_different_things_are_not_compared(report):
    suites = {
        "stock": suite("send", [[1.0]], answer="[0, 1]"),
        "python": suite("send", [[1.0]], answer="[0]"),
    }
    with pytest.raises(ValueError, match="'send' did not do the same everywhere"):
        report.make_report(suites, {"Sending": ["send"]})


def test_queueing():
    pytest.importorskip("django_tasks_db", reason="it queues there")
    head, *lines = python("-m", "benchmarks.queueing", "--rounds=2").splitlines()
    assert "as a multiple of task.enqueue()" in head
    assert len(lines) == 9
    assert all(float(line.split()[2]) > 0 for line in lines)
