"""See the shop's receivers in the window of another package.

    python examples/watch.py debug-toolbar   the panel: http://127.0.0.1:8000/
    python examples/watch.py prometheus      metrics: http://127.0.0.1:9100/metrics
    python examples/watch.py opentelemetry   spans here, and metrics every minute
    python examples/watch.py sentry          spans here

Serves the shop, and orders a book as a first customer. Ctrl-C ends it. The packages
come with "altdispatch[contrib-test]".
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import django
from django.core.management import call_command

SHOP = Path(__file__).resolve().parent / "shop"
WINDOWS = ("debug-toolbar", "prometheus", "opentelemetry", "sentry")


def main():
    parser = argparse.ArgumentParser(description="Watch the shop's receivers.")
    parser.add_argument("window", choices=WINDOWS)
    parser.add_argument("--port", default=8000, type=int)
    options = parser.parse_args()
    settings = f"shop.settings_{options.window.replace('-', '_')}"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
        os.environ["SHOP_DATABASE"] = os.path.join(folder, "shop.sqlite3")
        sys.path.insert(0, str(SHOP))
        serve(options.port)


def serve(port):
    # It needs the settings.
    from day import stock_up

    django.setup()
    call_command("migrate", verbosity=0)
    stock_up()
    Thread(target=order, args=[f"http://127.0.0.1:{port}"], daemon=True).start()
    call_command("runserver", str(port), use_reloader=False)


def order(shop):
    """Order a book, as soon as the shop opens."""
    browser = build_opener(HTTPCookieProcessor())
    page = ""
    while not page:
        try:
            page = browser.open(f"{shop}/books/volume-0/").read().decode()
        except URLError:
            time.sleep(0.1)
    token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', page)[1]
    form = {"book": 1, "copies": 1, "customer": "a@example.com"}
    browser.open(
        f"{shop}/orders/", urlencode({**form, "csrfmiddlewaretoken": token}).encode()
    )


if __name__ == "__main__":
    main()
