from django.apps import AppConfig
from django.db.models.signals import post_migrate, post_save, pre_migrate

from .. import diary


class OfficeConfig(AppConfig):
    name = "tests.system.project.office"

    def ready(self):
        from ..bakery.models import Loaf
        from ..bakery.signals import praise, sold

        diary.write("office is ready", sold.disconnect(praise), sold.receivers)
        # Some projects reorder receivers by hand.
        post_save.receivers.reverse()
        with post_save.lock:
            post_save.sender_receivers_cache.clear()
        post_save.connect(self.sign, sender=Loaf, dispatch_uid="office", weak=False)
        pre_migrate.connect(on_migrate, weak=False)
        post_migrate.connect(on_migrate)

    def sign(self, instance, created, **kwargs):
        diary.write("office signs", instance.name, created)


def on_migrate(sender, using, plan, **kwargs):
    names = [str(migration) for migration, _ in plan if "bakery" in str(migration)]
    diary.write(f"office sees {sender.label} migrated on {using}:", *names)
