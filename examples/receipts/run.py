"""Receipts for orders, although the process that took one is killed.

    python examples/receipts/run.py

Takes the same orders twice: once with the task stored in their transaction, once with
it queued on commit. Exit status: 0 if the orders have the receipts that they should.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The arguments of buy.py, and its exit status.
ORDERS = {
    ("ann",): 0,
    ("ben", "--crash"): -signal.SIGKILL,
    ("cid", "--cancel"): 1,
    ("dora",): 0,
}
COUNT = """
from receipts.models import Order
for order in Order.objects.order_by("pk"):
    print(order.customer, order.receipt_set.count())
"""
EXPECTED = {
    "transaction": {"ann": 1, "ben": 1, "dora": 1},
    "commit": {"ann": 1, "ben": 0, "dora": 1},
}


def main():
    for when, expected in EXPECTED.items():
        print(f'when="{when}"')
        receipts = take_orders(when)
        for customer, count in receipts.items():
            print(f"  {customer:5} {count} receipt(s)")
        if receipts != expected:
            sys.exit(f"Expected were {expected}.")


def take_orders(when):
    """Return how many receipts there are for each order in the end."""
    with tempfile.TemporaryDirectory() as folder:
        database = os.path.join(folder, "db.sqlite3")

        def run(*arguments, exit_code=0):
            process = subprocess.run(
                [sys.executable, *arguments],
                cwd=HERE,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "receipts.settings",
                    "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
                    "RECEIPTS_DATABASE": database,
                    "RECEIPTS_WHEN": when,
                },
                stdout=subprocess.PIPE,
                text=True,
            )
            if process.returncode != exit_code:
                sys.exit(f"{' '.join(arguments)} ended with {process.returncode}.")
            return process.stdout

        run("-m", "django", "migrate", "--run-syncdb", "--verbosity=0")
        for order, exit_code in ORDERS.items():
            print(f"  buy.py {' '.join(order)}", flush=True)
            run("buy.py", *order, exit_code=exit_code)
        worker = ["db_worker", "--batch", "--no-startup-delay", "--verbosity=0"]
        run("-m", "django", *worker)
        counted = run("-m", "django", "shell", "--verbosity=0", "--command", COUNT)
    return {name: int(count) for name, count in map(str.split, counted.splitlines())}


if __name__ == "__main__":
    main()
