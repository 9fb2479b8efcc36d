"""Two kinds of records: entries in the database, and a log of every signal."""

import logging

from django.contrib.auth.signals import (
    user_logged_in,
    user_logged_out,
    user_login_failed,
)
from django.core.signals import (
    got_request_exception,
    request_finished,
    request_started,
)
from django.db.backends.signals import connection_created
from django.db.models import Model
from django.db.models.signals import (
    m2m_changed,
    post_delete,
    post_init,
    post_migrate,
    post_save,
    pre_delete,
    pre_init,
    pre_migrate,
    pre_save,
)
from django.dispatch import receiver

from orders.signals import order_placed

from .models import Entry

logger = logging.getLogger(__name__)

NAMES = {
    connection_created: "connection_created",
    got_request_exception: "got_request_exception",
    m2m_changed: "m2m_changed",
    order_placed: "order_placed",
    post_delete: "post_delete",
    post_init: "post_init",
    post_migrate: "post_migrate",
    post_save: "post_save",
    pre_delete: "pre_delete",
    pre_init: "pre_init",
    pre_migrate: "pre_migrate",
    pre_save: "pre_save",
    request_finished: "request_finished",
    request_started: "request_started",
    user_logged_in: "user_logged_in",
    user_logged_out: "user_logged_out",
    user_login_failed: "user_login_failed",
}


@receiver([*NAMES])
def log(signal, sender, **named):
    """Log a signal as its name, its sender, and the names and values it came with."""
    values = [f"{name}={describe(value)}" for name, value in named.items()]
    logger.info("%s", " ".join([NAMES[signal], describe(sender), *values]))


@receiver([post_save, post_delete])
def record_change(signal, sender, instance, **kwargs):
    if sender._meta.app_label in {"catalogue", "orders"}:
        Entry.objects.create(what=f"{NAMES[signal]} {describe(instance)}")


@receiver([user_logged_in, user_login_failed, user_logged_out])
def record_login(signal, **kwargs):
    Entry.objects.create(what=NAMES[signal])


def describe(value):
    """Return what is the same whenever the same happens again.

    That is neither the time, nor a session's key, nor an address in memory.
    """
    if isinstance(value, Model):
        number = value.pk if isinstance(value.pk, int) else ""
        return f"{value._meta.label}({number})"
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, (set, frozenset)):
        return str(sorted(value))
    if value is None or isinstance(value, (bool, int, str)):
        return repr(value)
    return f"<{type(value).__qualname__}>"
