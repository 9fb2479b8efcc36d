import os

SECRET_KEY = "an example"
INSTALLED_APPS = ["receipts", "altdispatch", "django_tasks_db"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["RECEIPTS_DATABASE"],
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
# When the task is queued: "transaction" is the default of altdispatch.
WHEN = os.environ.get("RECEIPTS_WHEN", "transaction")
