"""Settings of the project; the environment has what differs between runs."""

import os

DELIVERY_FOLDER = os.environ["DELIVERY_FOLDER"]
DELIVERY_ENGINE = os.environ["DELIVERY_ENGINE"]
DELIVERY_WHEN = os.environ["DELIVERY_WHEN"]
REDIS = f"{DELIVERY_FOLDER}/redis.sock"

SECRET_KEY = "delivery"
INSTALLED_APPS = ["tests.delivery.apps.DeliveryConfig"]
if os.environ.get("DELIVERY_SWAPPED") != "0":
    INSTALLED_APPS.append("altdispatch")
if os.environ["DELIVERY_DATABASE"] == "postgresql":
    DATABASE = {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres"}
else:
    DATABASE = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{DELIVERY_FOLDER}/db.sqlite3",
        "OPTIONS": {
            "timeout": 120,
            "transaction_mode": "IMMEDIATE",
            # Processes are killed, but the machine keeps running.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
DATABASES = {"default": {**DATABASE, "CONN_MAX_AGE": None}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

ENGINES = {
    "db": ("django_tasks_db.DatabaseBackend", "django_tasks_db"),
    "rq": ("django_tasks_rq.RQBackend", "django_rq"),
    "celery": ("django_tasks_fennel.CeleryBackend", "django_tasks_fennel"),
}
BACKEND, APP = ENGINES[DELIVERY_ENGINE]
INSTALLED_APPS.append(APP)
TASKS = {"default": {"BACKEND": BACKEND}}
RQ_QUEUES = {"default": {"URL": f"unix://{REDIS}"}}
CELERY_BROKER_URL = f"redis+socket://{REDIS}"
CELERY_RESULT_BACKEND = f"redis+socket://{REDIS}"
CELERY_RESULT_EXTENDED = True
