"""Run Django's own test suite twice, stock and swapped, and compare every outcome.

    python tests/django_suite.py --django 6.1.3 [--parallel N] [--postgresql] [LABEL …]

Labels are those of Django's runtests.py ("signals", "dispatch.tests.DispatcherTests");
without any, the whole suite runs. It runs on SQLite or, with --postgresql, on the
server that libpq's variables name, such as PGHOST and PGUSER. It needs a Python that
this Django supports, and pip needs a package index. The folder .django-suite/<version>/
has report.txt, the outcomes (.json) and the output (.log) of both runs, and pip's
output (install.log). The next run uses the same environment; remove the folder to
start afresh.

Exit status: 0 if the same tests had the same results, 1 if they did not, 2 if the runs
can't be compared: one could not start, died, ran no test or used the wrong dispatcher.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import venv
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDER = Path(__file__).with_name("django_suite_recorder.py")
OUTCOMES = "DJANGO_SUITE_OUTCOMES"
RUNNER = f"{RECORDER.stem}.RecordingRunner"
# The settings modules. Django has those for SQLite.
SQLITE = "django_suite_sqlite"
POSTGRESQL = "django_suite_postgresql"
SETTINGS = {
    SQLITE: f"""
from test_sqlite import *

TEST_RUNNER = {RUNNER!r}
""",
    POSTGRESQL: f"""
from {SQLITE} import *

for alias, database in DATABASES.items():
    database |= {{"ENGINE": "django.db.backends.postgresql", "NAME": alias}}
""",
}
SIDES = {"stock": [], "swapped": ["-m", "altdispatch", "run"]}
REQUIREMENTS = ["py3.txt", "postgres.txt"]
# Other differences between runs: subtests named by the order of a set, and bytecode
# that other workers write into folders that tests copy.
SAME_IN_BOTH_RUNS = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
# All outcomes of a test case arrive together, so a slow case writes nothing for
# minutes. If a worker is killed, its parent waits forever.
MAX_SILENCE = 30 * 60
POLL_INTERVAL = 5

FAILURES = ("failed", "error", "unexpected success")
LOAD_FAILURE = "unittest.loader._FailedTest."
CHANGING_NAME = "[another name in each run]"


class CannotRun(Exception):
    """The runs can't be compared; the message says why."""


# Compare two runs: a "run" is what the recorder wrote about one side.


def without_changing_names(runs):
    """Give all subtests that are named on one side only the same name.

    Some names of subtests contain the time, random values or addresses, so the other
    side has no subtest of that name. Such subtests are compared with their test's
    others, without their names.
    """
    names = [
        {(outcome["test"], outcome["subtest"]) for outcome in run["outcomes"]}
        for run in runs.values()
    ]
    stable = set.intersection(*names)

    def renamed(outcome):
        named = outcome["subtest"] and (outcome["test"], outcome["subtest"])
        changing = named and named not in stable
        return outcome | {"subtest": CHANGING_NAME} if changing else outcome

    return {
        side: run | {"outcomes": [renamed(outcome) for outcome in run["outcomes"]]}
        for side, run in runs.items()
    }


def key(outcome):
    """Return what must be equal on both sides: test, subtest, kind and detail."""
    return tuple(outcome[name] for name in ("test", "subtest", "kind", "detail"))


def results(run):
    """Count the outcomes of a run, and collected tests without one as "not run".

    If a class is skipped or fails in setUpClass, its tests have no outcome.
    """
    counted = Counter(key(outcome) for outcome in run["outcomes"])
    seen = {outcome["test"] for outcome in run["outcomes"]}
    for test in set(run["collected"]) - seen:
        counted[test, "", "not run", ""] += 1
    return counted


def objections(side, run, version, status):
    """Yield the reasons why a run can't be compared.

    ``side`` is the expected dispatcher, ``version`` the expected Django, and ``status``
    the exit status of the process.
    """
    loading = [o for o in run["outcomes"] if o["test"].startswith(LOAD_FAILURE)]
    ran = {o["test"] for o in run["outcomes"] if o["kind"] != "skipped"}
    ran = ran.intersection(run["collected"]) - {o["test"] for o in loading}
    seen = run["dispatchers"]

    if run["django"] != version:
        yield f"Django {run['django']} was tested, not {version}"
    if run["stopped"]:
        yield "it was stopped before its end"
    if status != bool(run["failures"]):
        yield f"its exit status is {status} with {run['failures']} failures counted"
    for outcome in loading:
        yield f"{outcome['test']} did not load: {outcome['line']}"
    if not ran:
        yield "no test ran"
    if run["dispatcher"] != side or seen.keys() - {side}:
        yield f"its dispatcher was {run['dispatcher']}; after its tests: {seen}"
    if run["left_alone"]:
        yield f"not swapped, because patched by others: {run['left_alone']}"
    if seen.get(side, 0) < len(ran):
        yield f"{len(ran)} tests ran, the dispatcher was checked after {seen}"


def differences(runs):
    """Return {(test, subtest): {side: {(kind, detail): count}}} where the sides differ.

    The runs have passed through ``without_changing_names``, here and in the functions
    below.
    """
    stock, swapped = results(runs["stock"]), results(runs["swapped"])
    found = defaultdict(lambda: {"stock": {}, "swapped": {}})
    for side, surplus in ("stock", stock - swapped), ("swapped", swapped - stock):
        for (test, subtest, *rest), count in surplus.items():
            found[test, subtest][side][tuple(rest)] = count
    return dict(sorted(found.items()))


def common_failures(runs):
    """Return the sorted keys of the failures and errors that both sides have."""
    both = results(runs["stock"]) & results(runs["swapped"])
    return sorted(outcome for outcome in both if outcome[2] in FAILURES)


# Report the result


def counts(run):
    """Count the collected tests of a run, and its outcomes of each kind."""
    counted = Counter({"tests": len(run["collected"])})
    for (_, subtest, kind, _), count in results(run).items():
        counted[f"subtest {kind}" if subtest else kind] += count
    return counted


def table(runs):
    """Yield the lines of a table with the counts and seconds of each side."""
    left, right = counts(runs["stock"]), counts(runs["swapped"])
    yield f"{'':20}{'stock':>10}{'swapped':>10}"
    for name in dict.fromkeys([*left, *right]):
        yield f"{name:20}{left[name]:>10}{right[name]:>10}"
    seconds = [runs[side]["seconds"] for side in SIDES]
    yield f"{'seconds':20}{seconds[0]:>10.1f}{seconds[1]:>10.1f}"


def messages(run):
    """Return {key: first line of the message} for the outcomes of a run."""
    return {key(outcome): outcome["line"] for outcome in run["outcomes"]}


def name_of(test, subtest):
    return f"{test} {subtest}".strip()


def list_differences(runs):
    """Yield lines with the results of each differing test on each side."""
    lines = {side: messages(runs[side]) for side in SIDES}
    for (test, subtest), sides in differences(runs).items():
        yield name_of(test, subtest)
        for side, surplus in sides.items():
            for (kind, detail), count in surplus.items():
                text = lines[side].get((test, subtest, kind, detail)) or detail
                yield f"    {side:8} {count} x {kind}" + (f": {text}" if text else "")
            if not surplus:
                yield f"    {side:8} nothing else"


def list_common_failures(runs):
    """Yield lines with the failures of both sides and their messages."""
    lines = {side: messages(runs[side]) for side in SIDES}
    for outcome in common_failures(runs):
        test, subtest, kind, _ = outcome
        yield f"{name_of(test, subtest)}: {kind}"
        for line in dict.fromkeys(lines[side].get(outcome, "") for side in SIDES):
            yield f"    {line}"


def verdict(runs, shown=10):
    """Yield the last lines of the summary."""
    found = differences(runs)
    failures = common_failures(runs)
    if failures:
        yield f"Failures that are the same on both sides: {len(failures)}"
    if not found:
        yield f"No difference: {len(runs['stock']['collected'])} tests, same results."
        return
    yield f"Tests or subtests that differ: {len(found)}"
    for test, subtest in list(found)[:shown]:
        yield f"  {name_of(test, subtest)}"
    if len(found) > shown:
        yield f"  and {len(found) - shown} more"


def summary(place, runs):
    """Yield the lines for the terminal."""
    run = runs["swapped"]
    yield (
        f"Django {run['django']}, Python {run['python']}, {run['database']}, "
        f"altdispatch {run['altdispatch']}, {run['processes']} process(es)"
    )
    if place.missing:
        missing = ", ".join(place.missing)
        yield f"test requirements that could not be installed: {missing}"
    yield from table(runs)
    yield from verdict(runs)


def report(place, runs, arguments):
    """Yield the lines of the report file."""
    yield time.strftime("%Y-%m-%d %H:%M:%S %Z")
    yield "runtests.py " + " ".join(arguments)
    yield from summary(place, runs)
    yield from ["", "Status of the swapped side", "--------------------------"]
    yield runs["swapped"]["status"]
    yield from ["", "Differences", "-----------"]
    yield from list_differences(runs)
    yield from ["", "Failures on both sides", "----------------------"]
    yield from list_common_failures(runs)


# Run the suite


@dataclass
class Place:
    """The folder, environment and sdist for testing one release.

    ``missing`` lists the test requirements that could not be installed.
    """

    folder: Path
    python: Path
    sdist: Path
    missing: list[str]


def clean_environment():
    """Return the environment without variables that select modules or settings."""
    unwanted = ("PYTHON", "DJANGO_", "VIRTUAL_ENV")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(unwanted)
    }


def pip(python, log, *arguments):
    """Run pip in an environment, with output to the log; return whether it worked."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    with log.open("a", encoding="utf-8") as output:
        print("$ pip", *arguments, file=output, flush=True)
        done = subprocess.run(
            [*command, *arguments],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return done.returncode == 0


def require(done, what, log):
    if not done:
        raise CannotRun(f"{what}; see {log}\n{tail(log)}")


def tail(log, lines=15, width=200):
    """Return the last lines of a log, cut to a width: they can be very long."""
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join(line[:width] for line in last)


def unpack(sdist, folder):
    """Unpack an sdist into an empty folder and return its top folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["tar", "-xof", sdist, "-C", folder], check=True)
    (source,) = folder.iterdir()
    return source


def install_requirements(python, source, log):
    """Install the test requirements one by one; return those that failed."""
    folder = source / "tests/requirements"
    texts = [(folder / name).read_text(encoding="utf-8") for name in REQUIREMENTS]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    return [line for line in wanted if not pip(python, log, "install", line)]


def make_environment(folder, version):
    """Create a virtual environment with this Django and its test requirements.

    Reuse the environment if an earlier run finished it for this Python. Raise
    CannotRun.
    """
    log = folder / "install.log"
    environment = folder / f"env-{sys.implementation.cache_tag}"
    python = environment / "bin" / "python"
    finished = environment / "finished.json"
    if finished.exists():
        made = json.loads(finished.read_text(encoding="utf-8"))
        return Place(folder, python, Path(made["sdist"]), made["missing"])

    print(f"installing Django {version} and its test requirements in {environment}")
    venv.create(environment, clear=True, with_pip=True)
    downloads = environment / "downloads"
    wanted = ["--no-deps", "--no-binary", "django", f"django=={version}"]
    fetched = pip(python, log, "download", *wanted, "--dest", downloads)
    require(fetched, f"no sdist of Django {version}", log)
    (sdist,) = downloads.glob("*.tar.gz")
    require(pip(python, log, "install", sdist), f"no Django {version}", log)
    source = unpack(sdist, folder / "source")
    missing = install_requirements(python, source, log)
    made = json.dumps({"sdist": str(sdist), "missing": missing})
    finished.write_text(made, encoding="utf-8")
    return Place(folder, python, sdist, missing)


def install_altdispatch(place):
    """Install altdispatch from this clone. Raise CannotRun."""
    # Building in the clone would leave files that the next build picks up.
    copy = place.folder / "altdispatch"
    shutil.rmtree(copy, ignore_errors=True)
    litter = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=litter)
    log = place.folder / "install.log"
    options = ["--no-deps", "--force-reinstall"]
    done = pip(place.python, log, "install", *options, copy)
    require(done, "altdispatch could not be installed", log)


def wait(process, log):
    """Wait for a process; return its exit status. Kill it if it is silent for long.

    Raise CannotRun in that case.
    """
    size, since = -1, time.monotonic()
    try:
        while True:
            try:
                return process.wait(timeout=POLL_INTERVAL)
            except subprocess.TimeoutExpired:
                pass
            if log.stat().st_size != size:
                size, since = log.stat().st_size, time.monotonic()
            elif time.monotonic() - since > MAX_SILENCE:
                raise CannotRun(f"no output for {MAX_SILENCE} seconds\n{tail(log)}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_side(place, side, arguments):
    """Run the suite on one dispatcher; return the recorded run and the exit status.

    Raise CannotRun if the run did not finish.
    """
    tests = unpack(place.sdist, place.folder / "source") / "tests"
    shutil.copy(RECORDER, tests)
    for name, text in SETTINGS.items():
        (tests / f"{name}.py").write_text(text, encoding="utf-8")
    outcomes, log = place.folder / f"{side}.json", place.folder / f"{side}.log"
    outcomes.unlink(missing_ok=True)
    command = [place.python, *SIDES[side], "runtests.py", *arguments]
    environment = clean_environment() | SAME_IN_BOTH_RUNS | {OUTCOMES: str(outcomes)}
    print(f"running {side}, output in {log}", flush=True)
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            cwd=tests,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Its own process group, so that its workers can be killed with it.
            start_new_session=True,
        )
        status = wait(process, log)
    seconds = time.monotonic() - start
    if not outcomes.exists():
        message = f"the {side} run died before its end (exit status {status})"
        raise CannotRun(f"{message}; see {log}\n{tail(log)}")
    run = json.loads(outcomes.read_text(encoding="utf-8"))
    return run | {"seconds": seconds}, status


def run_both(version, arguments):
    """Run both sides, write the report, print the summary; return whether they agree.

    Raise CannotRun if the runs can't be compared.
    """
    folder = ROOT / ".django-suite" / version
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "report.txt"
    file.unlink(missing_ok=True)
    place = make_environment(folder, version)
    install_altdispatch(place)
    runs = {}
    for side in SIDES:
        runs[side], status = run_side(place, side, arguments)
        reasons = list(objections(side, runs[side], version, status))
        if reasons:
            raise CannotRun(f"the {side} run can't be used: " + "; ".join(reasons))
    runs = without_changing_names(runs)
    print("\n".join(summary(place, runs)))
    lines = report(place, runs, arguments)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"details: {file}")
    return not differences(runs)


def version_number(text):
    """Return the version if it is valid, as it names a folder. Raise ValueError."""
    if not re.fullmatch(r"\d[0-9a-z]*(\.\d[0-9a-z]*)+", text):
        raise ValueError(text)
    return text


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Compare Django's own test suite, stock and swapped.",
        epilog="Exit status: 0 same results, 1 differences, 2 no comparison.",
    )
    parser.add_argument("--django", required=True, type=version_number, metavar="X.Y.Z")
    parser.add_argument("--parallel", type=int, metavar="N", help="default: all CPUs")
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("labels", nargs="*", metavar="LABEL")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line and return its exit status."""
    options = parse(arguments)
    settings = POSTGRESQL if options.postgresql else SQLITE
    passed_on = [f"--settings={settings}", "--noinput"]
    if options.parallel is not None:
        passed_on.append(f"--parallel={options.parallel}")
    try:
        same = run_both(options.django, [*passed_on, *options.labels])
    except CannotRun as error:
        print(f"cannot compare: {error}", file=sys.stderr)
        return 2
    except Exception:
        # Otherwise Python would exit with 1, which means differences.
        traceback.print_exc()
        return 2
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
