"""What does all this come to, for an ASGI server?

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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # For a script, Python looks in the script's folder; the package is one above.
    sys.path.insert(0, str(ROOT))

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
    """What wrk and the server have to say: all times are in milliseconds."""

    rate: float
    half: float
    most: float
    cpu: float


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
    """Measure, and return the table as reStructuredText."""
    before, *_ = os.getloadavg()
    lines = [
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - ",
        *(f"     - {variant}" for variant in variants),
    ]
    for setup, options in SETUPS.items():
        with ExitStack() as stack:
            servers = {v: stack.enter_context(serving(v, *options)) for v in variants}
            for path_name, path in PATHS.items():
                print(f"{path_name}, {setup}", file=sys.stderr)
                lines += [f"   * - {path_name}, {setup}"]
                lines += cells(servers, path, rounds, seconds)
    heading = (
        f"Requests by {CONNECTIONS} connections, {rounds} rounds of {seconds} s for "
        "each dispatcher by turns. Times faster than stock in requests per second, the "
        "median of the rounds, with the lowest and the highest; stock's CPU time for a "
        "request over this one's, likewise; then the medians of what half and 99 % of "
        "the requests took, in milliseconds. "
        f"Load average: {before:.1f} at the start, {os.getloadavg()[0]:.1f} at the end."
    )
    return "\n".join([heading, *lines, ""])


def cells(
    servers: dict[str, Server], path: str, rounds: int, seconds: int
) -> list[str]:
    """Measure a row, and return what is in its columns."""
    loads = {variant: [] for variant in servers}
    for server in servers.values():
        put_load(server, path, 1)
    for _ in range(rounds):
        for variant, server in servers.items():
            loads[variant].append(put_load(server, path, seconds))
    stock, *_ = loads.values()
    return [f"     - {describe(measured, stock)}" for measured in loads.values()]


def describe(loads: Sequence[Load], stock: Sequence[Load]) -> str:
    """Return what a cell says of the rounds of a dispatcher."""
    half = median(load.half for load in loads)
    most = median(load.most for load in loads)
    if loads is stock:
        rate = median(load.rate for load in loads)
        cpu = median(load.cpu for load in loads)
        return f"{rate:.0f} a second; CPU {cpu:.2f} ms; {half:.1f}, {most:.1f} ms"
    rates = [load.rate / base.rate for load, base in zip(loads, stock, strict=True)]
    cpu = [base.cpu / load.cpu for load, base in zip(loads, stock, strict=True)]
    return f"{spread(rates)}; CPU {spread(cpu)}; {half:.1f}, {most:.1f} ms"


def spread(ratios: Sequence[float]) -> str:
    """Return the median, with the lowest and the highest."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


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
