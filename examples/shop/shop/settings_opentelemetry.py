"""The shop with OpenTelemetry, whose spans and metrics go to the terminal."""

from .settings import *

ALTDISPATCH = {"MONITORING": True}
WSGI_APPLICATION = "shop.wsgi_opentelemetry.application"
