"""Take an order, as a web process does: python buy.py CUSTOMER [--crash | --cancel]"""

import os
import signal
import sys

import django
from django.db import transaction

django.setup()

from receipts.models import Order  # noqa: E402


def crash():
    """Die at the worst moment: the order is committed, and nothing was done since."""
    os.kill(os.getpid(), signal.SIGKILL)


with transaction.atomic():
    if "--crash" in sys.argv:
        # Before that of the receiver, which comes next.
        transaction.on_commit(crash)
    Order.objects.create(customer=sys.argv[1])
    if "--cancel" in sys.argv:
        sys.exit("The order was cancelled.")
