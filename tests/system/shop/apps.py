from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "tests.system.shop"
    label = "shop"
