"""Write the orders of a range, as a web process does; continue after a kill.

python -m tests.delivery.write FIRST LAST
"""

import sys

import django
from django.db import transaction


class RollBack(Exception):
    pass


def main(first: int, last: int) -> None:
    django.setup()
    from .models import Order

    written = Order.objects.filter(number__range=(first, last)).order_by("number")
    start = written.values_list("number", flat=True).last() or first - 1
    for number in range(start + 1, last + 1):
        try:
            with transaction.atomic():
                Order.objects.create(number=number)
                if number % 10 == 0:
                    raise RollBack
        except RollBack:
            continue


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
