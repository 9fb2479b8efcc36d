"""Settings of all tests without a project of their own.

altdispatch isn't in INSTALLED_APPS: the tests swap and unswap the dispatcher.

The environment variable ALTDISPATCH_DATABASE is "sqlite3" by default. With
"postgresql", libpq's variables such as PGHOST and PGUSER name the server.
"""

import os
from pathlib import Path

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.sites",
    "tests.system.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "tests.system.shop.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "system" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
BACKEND = os.environ.get("ALTDISPATCH_DATABASE", "sqlite3")
DATABASES = {
    alias: {
        "ENGINE": f"django.db.backends.{BACKEND}",
        "NAME": ":memory:" if BACKEND == "sqlite3" else alias,
    }
    for alias in ("default", "other")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SITE_ID = 1
STATIC_URL = "static/"
USE_TZ = True
