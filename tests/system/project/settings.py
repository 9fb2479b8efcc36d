"""The settings; ALTDISPATCH_PLACE in the environment says where altdispatch is."""

import os

SECRET_KEY = "a project"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.system.project.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    # Connects to the bakery's models, which are not there yet when it's loaded.
    "tests.system.project.ledger",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "tests.system.project.bakery",
    # Undoes some of what the others have connected.
    "tests.system.project.office",
]
PLACES = {"first": 0, "middle": 3, "last": len(INSTALLED_APPS)}
USE_TZ = True

PLACE = os.environ["ALTDISPATCH_PLACE"]
if PLACE in PLACES:
    INSTALLED_APPS.insert(PLACES[PLACE], "altdispatch")
