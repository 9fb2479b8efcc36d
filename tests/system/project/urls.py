from django.http import HttpResponse
from django.urls import path

from .bakery.models import Loaf


def sell(request):
    number, _ = Loaf.objects.all().delete()
    return HttpResponse(f"{number} sold")


urlpatterns = [path("sell/", sell)]
