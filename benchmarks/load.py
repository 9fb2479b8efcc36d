"""How many more requests does an ASGI server answer?

    python benchmarks/load.py                           by turns, for some seconds each
    python benchmarks/load.py --soak 600 --variants c   one server, and what it leaves

The shop is served by uvicorn on loopback; wrk, in a process of its own, makes as many
requests as are answered. There is a server for each variant, and they have the load by
turns. Servers run on the first core and wrk on the last one. A soak asks its server
each minute what there is of it. Only for Linux.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # For a script, Python looks in the script's folder; the package is one above.
    sys.path.insert(0, str(ROOT))

from benchmarks.report import list_table_row  # noqa: E402
from benchmarks.run import DISPATCHERS, documented_table  # noqa: E402

PATHS = {
    "asynchronous, a line of text": "/async/",
    "asynchronous, 25 instances": "/async/books/",
    "synchronous, 25 instances": "/books/",
}
#: Options of the server.
SETUPS = {
    "no middleware": ("0", "--no-middleware"),
    "4 middleware": ("0",),
    "4 middleware, 2 + 2 receivers more": ("2",),
}
CONNECTIONS = 8

#: What wrk prints, and by how much to multiply it for milliseconds.
UNITS = {"us": 0.001, "ms": 1, "s": 1000}


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure requests to a real server.")
    parser.add_argument("--seconds", type=int, default=4, help="of load, for a value")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, metavar="SECONDS")
    parser.add_argument("--variants", nargs="+", default=DISPATCHERS)
    options = parser.parse_args()
    if options.soak:
        for variant in options.variants:
            soak(variant, options.soak)
    else:
        text = table(options.variants, options.rounds, options.seconds)
        print(text)
        documented_table("load").write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Server:
    """One that runs: its address, and its process."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Return how long all its threads have run."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        # After the name of the program, which is in parentheses.
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What wrk and the server tell of a round; times are in milliseconds.

    Attributes:

        rate
            Requests per second.
        half, most
            The median and the 99th percentile of the latency.
        cpu
            The CPU time of the server per request.
    """

    rate: float
    half: float
    most: float
    cpu: float


#: By an attribute of ``Load``: the title of its table, and the format of its values.
ABSOLUTE = {
    "half": ("Median latency, in milliseconds", ".1f"),
    "most": ("99th percentile of the latency, in milliseconds", ".1f"),
}
#: The same; only stock's values are absolute in these tables. The exponent makes ratios
#: above 1 better.
RELATIVE = {
    "rate": ("Requests per second", ".0f", 1),
    "cpu": ("CPU time per request, in milliseconds", ".2f", -1),
}
# By request, then by variant: the rounds.
Loads = Mapping[str, Mapping[str, Sequence[Load]]]


@contextmanager
def serving(variant: str, *options: str) -> Iterator[Server]:
    """Run a server on the first core."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serve", variant, folder, *options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        with process:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            yield Server(url, process.pid)
            process.stdin.close()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)


def put_load(server: Server, path: str, seconds: int) -> Load:
    """Put load on a server from the last core.

    Raises ValueError if a request was not answered as it should be.
    """
    core = str(max(os.sched_getaffinity(0)))
    before = server.cpu_seconds()
    output = subprocess.run(
        [
            *("taskset", "-c", core, "wrk", "-t1", f"-c{CONNECTIONS}"),
            *(f"-d{seconds}s", "--latency", server.url + path),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    cpu = server.cpu_seconds() - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise ValueError(output)
    rate = re.search(r"Requests/sec: +([\d.]+)", output)
    requests = re.search(r"(\d+) requests in", output)
    latencies = dict(re.findall(r"(50|99)% +([\d.]+(?:us|ms|s))", output))
    half, most = (milliseconds(latencies[part]) for part in ("50", "99"))
    return Load(float(rate[1]), half, most, 1000 * cpu / int(requests[1]))


def milliseconds(text: str) -> float:
    """Return what wrk calls a time."""
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()
    return float(number) * UNITS[unit]


def table(variants: Sequence[str], rounds: int, seconds: int) -> str:
    """Measure, and return the tables as reStructuredText."""
    before, *_ = os.getloadavg()
    loads = {}
    for setup, options in SETUPS.items():
        with ExitStack() as stack:
            servers = {v: stack.enter_context(serving(v, *options)) for v in variants}
            for path_name, path in PATHS.items():
                name = f"{path_name}, {setup}"
                print(name, file=sys.stderr)
                loads[name] = measure(servers, path, rounds, seconds)
    about = (
        f"Requests by {CONNECTIONS} connections, for {seconds} s to each dispatcher in "
        f"turn. Each value is the median of {rounds} rounds. In the first two tables, "
        "the columns after stock's are ratios to stock: above 1 is better. "
        f"Load average: {before:.1f} at the start, {os.getloadavg()[0]:.1f} at the end."
    )
    return "\n\n".join([about, *make_tables(loads)]) + "\n"


def measure(
    servers: Mapping[str, Server], path: str, rounds: int, seconds: int
) -> dict[str, list[Load]]:
    """Return the rounds of each variant."""
    loads: dict[str, list[Load]] = {variant: [] for variant in servers}
    for server in servers.values():
        put_load(server, path, 1)
    for _ in range(rounds):
        for variant, server in servers.items():
            loads[variant].append(put_load(server, path, seconds))
    return loads


def make_tables(loads: Loads) -> Iterator[str]:
    """Yield a table for each value that was measured, with one figure a cell."""
    stock, *others = next(iter(loads.values()))
    for attribute, (title, form, exponent) in RELATIVE.items():
        rows = [["", stock]]
        for other in others:
            rows[0] += [other, f"{other}, worst", f"{other}, best"]
        for name, rounds in loads.items():
            row = [name, format(find_median(rounds[stock], attribute), form)]
            for other in others:
                ratios = compare(rounds[stock], rounds[other], attribute, exponent)
                row += [f"{each:.2f}" for each in ratios]
            rows.append(row)
        yield make_list_table(title, rows)
    for attribute, (title, form) in ABSOLUTE.items():
        rows = [["", stock, *others]]
        for name, rounds in loads.items():
            medians = (find_median(each, attribute) for each in rounds.values())
            rows.append([name, *(format(median, form) for median in medians)])
        yield make_list_table(title, rows)


def find_median(rounds: Sequence[Load], attribute: str) -> float:
    """Return the median of a value of the rounds."""
    return median(getattr(load, attribute) for load in rounds)


def compare(
    stock: Sequence[Load], other: Sequence[Load], attribute: str, exponent: int
) -> tuple[float, float, float]:
    """Return how many times as good the other is: median, worst and best round."""
    ratios = [
        (getattr(load, attribute) / getattr(base, attribute)) ** exponent
        for load, base in zip(other, stock, strict=True)
    ]
    return median(ratios), min(ratios), max(ratios)


def make_list_table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a table as reStructuredText; the first row has the headings."""
    head = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    return "\n".join(head + [line for row in rows for line in list_table_row(row)])


def soak(variant: str, seconds: int) -> None:
    """Put load on a server, and print what there is of it meanwhile."""
    with serving(variant, "2") as server:
        begun = time.monotonic()
        spent = 0.0
        while spent < seconds:
            for path in PATHS.values():
                put_load(server, path, min(30, seconds // 2))
            # What was under way when wrk ended comes to its end.
            time.sleep(1)
            with urlopen(f"{server.url}/counts") as answer:
                counts = ast.literal_eval(answer.read().decode())
            spent = time.monotonic() - begun
            print(f"{variant}, {spent:.0f} s: {counts}", flush=True)


if __name__ == "__main__":
    main()
