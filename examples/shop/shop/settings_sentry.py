"""The shop with Sentry, which gets spans of slow receivers from altdispatch."""

import sentry_sdk
from sentry_sdk.integrations.django import DjangoIntegration

from altdispatch.contrib.sentry import trace_slow_receivers

from .printing import Printing
from .settings import *

sentry_sdk.init(
    # In the place of a dsn.
    transport=Printing(),
    traces_sample_rate=1.0,
    integrations=[DjangoIntegration(signals_spans=False)],
)
trace_slow_receivers(slower_than=0.001)
