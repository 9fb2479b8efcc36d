SECRET_KEY = "typed"
INSTALLED_APPS = ["altdispatch", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
