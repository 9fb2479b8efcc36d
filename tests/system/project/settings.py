"""Settings; ALTDISPATCH_PLACE is the place of altdispatch in INSTALLED_APPS."""

import os

SECRET_KEY = "a project"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.system.project.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    # Connects to the bakery's models before they are loaded.
    "tests.system.project.ledger",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "tests.system.project.bakery",
    # Disconnects some receivers of the other apps.
    "tests.system.project.office",
]
PLACES = {"first": 0, "middle": 3, "last": len(INSTALLED_APPS)}
USE_TZ = True

PLACE = os.environ["ALTDISPATCH_PLACE"]
if PLACE in PLACES:
    INSTALLED_APPS.insert(PLACES[PLACE], "altdispatch")
