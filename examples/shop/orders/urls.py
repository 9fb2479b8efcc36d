from django.urls import path

from . import views

urlpatterns = [
    path("", views.place_order, name="place-order"),
    path("report/", views.report, name="report"),
]
