"""The application that ``celery -A tests.delivery.celery worker`` runs."""

import celery
import django

app = celery.Celery("delivery")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()
django.setup()
