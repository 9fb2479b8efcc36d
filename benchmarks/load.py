"""What does all this come to, for a server of asynchronous views?

    python benchmarks/load.py                           by turns, for some seconds each
    python benchmarks/load.py --soak 600 --variants c   one server, and what it leaves

The shop is served by uvicorn on loopback; wrk, in a process of its own, makes as many
requests as are answered. There is a server for each variant, and they have the load by
turns. A soak asks its server each minute what there is of it.
"""

import argparse
import ast
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # For a script, Python looks in the script's folder; the package is one above.
    sys.path.insert(0, str(ROOT))

from benchmarks.run import DISPATCHERS, documented_table  # noqa: E402

PATHS = {"a line of text": "/async/", "a page of 25 instances": "/async/books/"}
RECEIVERS = {"Django's receivers only": 0, "2 + 2 receivers more": 2}
CONNECTIONS = 8

#: What wrk prints, and by how much to multiply it for milliseconds.
UNITS = {"us": 0.001, "ms": 1, "s": 1000}


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure requests to a real server.")
    parser.add_argument("--seconds", type=int, default=4, help="of load, for a value")
    parser.add_argument("--rounds", type=int, default=5)
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


@contextmanager
def serving(variant: str, receivers: int) -> Iterator[str]:
    """Run a server, and give its address."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.serve"),
                *(variant, folder, str(receivers)),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
            process.stdin.close()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)


def put_load(url: str, seconds: int) -> tuple[float, float, float]:
    """Return requests per second, and milliseconds for half and for 99 % of them.

    Raises ValueError if one was not answered as it should be.
    """
    output = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise ValueError(output)
    rate = re.search(r"Requests/sec: +([\d.]+)", output)
    latencies = dict(re.findall(r"(50|99)% +([\d.]+(?:us|ms|s))", output))
    return float(rate[1]), milliseconds(latencies["50"]), milliseconds(latencies["99"])


def milliseconds(text: str) -> float:
    """Return what wrk calls a time."""
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()
    return float(number) * UNITS[unit]


def table(variants: Sequence[str], rounds: int, seconds: int) -> str:
    """Measure, and return the table as reStructuredText."""
    lines = [
        f"Requests by {CONNECTIONS} connections, {rounds} rounds of {seconds} s for "
        "each dispatcher by turns. Times faster than stock in requests per second, the "
        "median of the rounds, with the lowest and the highest; then the medians of "
        "what half and 99 % of the requests took, in milliseconds.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - ",
        *(f"     - {variant}" for variant in variants),
    ]
    for receivers_name, receivers in RECEIVERS.items():
        with ExitStack() as stack:
            urls = {v: stack.enter_context(serving(v, receivers)) for v in variants}
            for path_name, path in PATHS.items():
                print(f"{path_name}, {receivers_name}", file=sys.stderr)
                lines += [f"   * - {path_name}, {receivers_name}"]
                lines += cells(urls, path, rounds, seconds)
    return "\n".join([*lines, ""])


def cells(urls: dict[str, str], path: str, rounds: int, seconds: int) -> list[str]:
    """Measure a row, and return what is in its columns."""
    values = {variant: [] for variant in urls}
    for url in urls.values():
        put_load(url + path, 1)
    for _ in range(rounds):
        for variant, url in urls.items():
            values[variant].append(put_load(url + path, seconds))
    stock, *_ = values.values()
    lines = []
    for measured in values.values():
        rates = [rate for rate, _, _ in measured]
        ratios = [rate / base for rate, (base, _, _) in zip(rates, stock, strict=True)]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        rate = (
            f"{median(rates):.0f} a second"
            if measured is stock
            else f"{median(ratios):.2f} {spread}"
        )
        half, most = (median(value[place] for value in measured) for place in (1, 2))
        lines.append(f"     - {rate}; {half:.1f}, {most:.1f} ms")
    return lines


def soak(variant: str, seconds: int) -> None:
    """Put load on a server, and print what there is of it meanwhile."""
    with serving(variant, 2) as url:
        begun = time.monotonic()
        spent = 0.0
        while spent < seconds:
            for path in PATHS.values():
                put_load(url + path, min(30, seconds // 2))
            # What was under way when wrk ended comes to its end.
            time.sleep(1)
            with urlopen(f"{url}/counts") as answer:
                counts = ast.literal_eval(answer.read().decode())
            spent = time.monotonic() - begun
            print(f"{variant}, {spent:.0f} s: {counts}", flush=True)


if __name__ == "__main__":
    main()
