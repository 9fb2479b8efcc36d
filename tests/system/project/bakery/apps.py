from django.apps import AppConfig

from .. import diary


class BakeryConfig(AppConfig):
    name = "tests.system.project.bakery"

    def ready(self):
        from .signals import baked

        diary.write("bakery is ready")
        for response in baked.send(sender=self, name="the first loaf"):
            diary.write("told while starting:", response[1])
