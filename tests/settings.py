"""The settings of all tests that don't bring a project of their own.

altdispatch isn't among the apps: the tests swap and unswap, and compare.
"""

SECRET_KEY = "tests"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
