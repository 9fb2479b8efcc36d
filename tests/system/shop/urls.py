from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("async/echo/", views.async_echo),
    path("async/fail/", views.async_fail),
    path("async/stream/", views.async_stream),
    path("async/stream-on/", views.async_stream_on),
    path("async/wait/", views.async_wait),
    path("download/", views.download),
    path("echo/", views.echo),
    path("fail/", views.fail),
    path("page/", views.page),
    path("refuse/", views.refuse),
    path("stream/", views.stream),
    path("stream-on/", views.stream_on),
]
