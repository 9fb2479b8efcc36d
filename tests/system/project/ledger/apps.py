import gc

from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_init, pre_save

from .. import diary


class LedgerConfig(AppConfig):
    name = "tests.system.project.ledger"

    def ready(self):
        from . import receivers

        diary.write("ledger is ready")
        pre_save.connect(receivers.from_ready, sender="bakery.Loaf")
        pre_save.connect(receivers.from_ready, sender="bakery.Loaf")
        # A bound method lives as long as this configuration.
        pre_save.connect(self.count)
        post_migrate.connect(self.migrated, sender=self)

        def lost(**kwargs):
            diary.write("nothing keeps this receiver alive")

        pre_init.connect(lost)
        del lost
        gc.collect()  # PyPy doesn't count references.

    def count(self, sender, **kwargs):
        diary.write("ledger counts a", sender.__name__)

    def migrated(self, sender, **kwargs):
        diary.write("ledger is migrated", sender is self)
