"""The shop with a server of its own for Prometheus to scrape."""

from .settings import *

ALTDISPATCH = {"MONITORING": True}
WSGI_APPLICATION = "shop.wsgi_prometheus.application"
