"""The same shop without altdispatch, for the demo to compare with."""

from .settings import *

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "altdispatch"]
