"""Run the project; print its diary and altdispatch's status as JSON."""

import gc
import json
import os
import sys

import django
from django.core.signals import request_started
from django.db.models.signals import post_save
from django.dispatch import Signal, receiver

from . import diary

# Created before the project is loaded.
early = Signal()


@receiver([early, post_save])
@receiver(request_started)
def everything(sender, signal, **kwargs):
    name = getattr(sender, "__name__", sender)
    diary.write("early receiver:", name, *kwargs, "of", type(signal).__name__)


def bake():
    from .bakery.models import Bun, Loaf

    loaf = Loaf(name="Rye")
    loaf.save()
    loaf.save(update_fields=["name"])
    Bun.objects.create(name="Bun")


def make_request():
    from django.core.wsgi import get_wsgi_application
    from django.test import RequestFactory

    environ = RequestFactory().get("/sell/").environ
    response = get_wsgi_application()(environ, lambda *args: diary.write(args[0]))
    diary.write(b"".join(response).decode())
    response.close()


def count_receivers():
    from django.db.models.signals import post_migrate, pre_save

    from .bakery.models import Loaf

    gc.collect()
    for signal in (pre_save, post_save, post_migrate, early):
        diary.write(signal.has_listeners(Loaf), len(signal.receivers), "receivers")


def migrate():
    from django.contrib.contenttypes.models import ContentType
    from django.core.management import call_command

    call_command("migrate", "contenttypes", verbosity=0)
    call_command("migrate", "bakery", "0001", verbosity=0)
    before = ContentType.objects.get(model="bread").pk
    call_command("migrate", run_syncdb=True, verbosity=0)
    after = ContentType.objects.get(model="loaf").pk
    diary.write("content type renamed:", before == after)


def override_apps(apps):
    from django.apps import apps as registry
    from django.conf import settings
    from django.test import override_settings

    with override_settings(INSTALLED_APPS=apps):
        labels = [app.label for app in registry.get_app_configs()]
        diary.write("apps:", *[label for label in labels if label != "altdispatch"])
        bake()
        count_receivers()
    diary.write("back to", len(set(settings.INSTALLED_APPS) - {"altdispatch"}))
    bake()
    count_receivers()


def main():
    early.send(sender="a sender", word=1)
    django.setup()
    django.setup()
    early.send(sender="a sender", word=1)
    migrate()
    count_receivers()
    bake()
    make_request()

    from django.conf import settings

    installed = [app for app in settings.INSTALLED_APPS if app != "altdispatch"]
    again = ["altdispatch"] if os.environ["ALTDISPATCH_PLACE"] else []
    override_apps(installed[:-1])
    override_apps([*installed, *again])
    make_request()
    altdispatch = sys.modules.get("altdispatch")
    status = altdispatch and vars(altdispatch.status())
    json.dump({"diary": diary.ENTRIES, "status": status}, sys.stdout)


if __name__ == "__main__":
    main()
