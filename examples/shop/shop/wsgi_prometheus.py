import os
from contextlib import suppress

from prometheus_client import REGISTRY, start_http_server

from altdispatch.contrib.prometheus import SignalCollector

from .wsgi import application

__all__ = ["application"]

FIRST_PORT = int(os.environ.get("METRICS_PORT", "9100"))
# As many as there are workers, and some for those that start while others stop.
PORTS = range(FIRST_PORT, FIRST_PORT + 8)


def serve_metrics():
    """Serve the metrics of this process on the first port that is free."""
    REGISTRY.register(SignalCollector())
    for port in PORTS:
        with suppress(OSError):
            return start_http_server(port, addr="127.0.0.1")
    raise OSError(f"None of the ports {PORTS} is free.")


serve_metrics()
