"""Receipts for orders, although the process that took one is killed.

    python examples/receipts/run.py

Takes the same orders twice: once with the task stored in their transaction, once with
it queued on commit. Exit status: 0 if the first has lost nothing.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORDERS = [["ann"], ["ben", "--crash"], ["cid", "--cancel"], ["dora"]]
COUNT = """
from receipts.models import Order
for order in Order.objects.order_by("pk"):
    print(f"  {order.customer:5} {order.receipt_set.count()} receipt(s)")
"""


def main():
    lost = {when: take_orders(when) for when in ("transaction", "commit")}
    return int(lost["transaction"])


def take_orders(when):
    """Return whether an order has no receipt in the end."""
    print(f'when="{when}"')
    with tempfile.TemporaryDirectory() as folder:
        database = os.path.join(folder, "db.sqlite3")

        def run(*arguments):
            return subprocess.run(
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
            ).stdout

        run("-m", "django", "migrate", "--run-syncdb", "--verbosity=0")
        for order in ORDERS:
            print(f"  buy.py {' '.join(order)}", flush=True)
            run("buy.py", *order)
        worker = ["db_worker", "--batch", "--no-startup-delay", "--verbosity=0"]
        run("-m", "django", *worker)
        counted = run("-m", "django", "shell", "--verbosity=0", "--command", COUNT)
    print(counted)
    return " 0 receipt" in counted


if __name__ == "__main__":
    sys.exit(main())
