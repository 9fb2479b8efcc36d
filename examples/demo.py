"""See altdispatch at work in a small Django project, the shop next to this file.

    python examples/demo.py              compare stock and swapped, measure both
    python examples/demo.py --no-table   compare only

The same day in the shop is run twice, on stock Django and with altdispatch swapped
in, each in a process and with a database of its own. Exit status: 0 if the shop's
receivers saw the same in both, 1 if not.
"""

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
SETTINGS = {"stock": "shop.settings_stock", "altdispatch": "shop.settings"}
COMPARED = ("journal", "answers", "rows")
SIGNAL = "audit.receivers: "


def main():
    parser = argparse.ArgumentParser(description="See altdispatch at work.")
    parser.add_argument("--no-table", action="store_true", help="do not measure")
    options = parser.parse_args()

    print("A day in the shop, first on stock Django, then with altdispatch.\n")
    days = {name: run_day(settings) for name, settings in SETTINGS.items()}
    stock, swapped = days.values()
    if stock["installed"] or not swapped["installed"]:
        sys.exit(f"Not the dispatchers to compare. altdispatch:\n{swapped['status']}")
    print(counts(stock, swapped))
    found = differences(stock, swapped)
    if found:
        sys.exit("\n".join(["The two days differ:", *found]))
    print(
        "\nThe receivers saw the same, in the same order; the answers to the requests\n"
        "and the rows in the database are the same too.\n\n"
        "altdispatch.status(), from the running shop:\n"
    )
    print(swapped["status"])
    if not options.no_table:
        print("\nNow the time. This takes half a minute.\n")
        report = measure()
        print(report.text())
        print(f"\n{verdict(report)}")


def run_day(settings):
    """Run the day in a process of its own; return what it tells."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [sys.executable, EXAMPLES / "day.py"],
            cwd=EXAMPLES / "shop",
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": settings,
                "SHOP_DATABASE": os.path.join(folder, "shop.sqlite3"),
            },
            capture_output=True,
            text=True,
        )
    if process.returncode:
        sys.exit(f"The day with {settings} failed:\n{process.stderr}")
    return json.loads(process.stdout)


def counts(stock, swapped):
    """Return a table of how often each signal was received."""
    received = [
        Counter(
            entry.removeprefix(SIGNAL).split()[0]
            for entry in day["journal"]
            if entry.startswith(SIGNAL)
        )
        for day in (stock, swapped)
    ]
    rows = [("received", *SETTINGS)]
    rows += [(name, *(day[name] for day in received)) for name in sorted(received[0])]
    rows += [("in all", *(day.total() for day in received))]
    return "\n".join("{:24}{:>12}{:>14}".format(*row) for row in rows)


def differences(stock, swapped):
    """Return the lines of a diff of all that is compared; none if all is the same."""

    def lines(day):
        return json.dumps({name: day[name] for name in COMPARED}, indent=0).split("\n")

    return [*difflib.unified_diff(lines(stock), lines(swapped), *SETTINGS, lineterm="")]


def measure():
    """Return the report of a quick run of the benchmarks."""
    # They are not installed: they are in the folder above.
    sys.path.append(str(EXAMPLES.parent))
    from benchmarks.run import run

    return run()


def verdict(report):
    """Return what the table says, for whoever doesn't read tables of timings."""
    variant = report.variants[1]
    ratios = {
        title: [line.ratios[variant].median for line in lines]
        for title, lines in report.groups.items()
    }
    how = {"c": "compiled", "python": "in plain Python"}[variant]
    return "\n".join(
        [
            "The verdict: the receivers saw the same. How many times as fast as Django",
            f"altdispatch ({how}) was:\n",
            *(f"{title:26}{span(values)}" for title, values in ratios.items()),
            *slower(report, variant),
            *same_as_asynchronous(report, ratios),
            "",
            "A request does much more than send signals: expect a few per cent of it.",
            "What your own project would gain, in its folder:",
            "python -m altdispatch profile --url / --settings mysite.settings",
        ]
    )


def span(ratios):
    low, high = (f"{ratio:.1f}" for ratio in (min(ratios), max(ratios)))
    return low if low == high else f"{low} to {high}"


def slower(report, variant):
    """Return a line that names the rows that were slower in each round, if any."""
    names = [
        line.name
        for lines in report.groups.values()
        for line in lines
        if line.ratios[variant].high < 1
    ]
    return [f"\nSlower than Django: {'; '.join(names)}."] if names else []


def same_as_asynchronous(report, ratios):
    """Return lines that say why some asynchronous rows are about 1.0, if any are."""
    found = ratios.get("Asynchronous", [])
    if all(ratio > 1.1 for ratio in found):
        return []
    lines = [
        "",
        "Asynchronous: 1.0 is expected where send() calls an asynchronous receiver, as",
        "altdispatch leaves that to Django.",
    ]
    if not any(ratio > 1.1 for ratio in found):
        python, django = report.environment["Python"], report.environment["Django"]
        lines += [
            "Its faster asend() needs Django 6.1 and Python 3.12, or newer; this is",
            f"Django {django} on {python}.",
        ]
    return lines


if __name__ == "__main__":
    main()
