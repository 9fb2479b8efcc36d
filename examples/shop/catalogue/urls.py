from django.urls import path

from . import views

urlpatterns = [
    path("", views.BookList.as_view(), name="books"),
    path("books/<slug:slug>/", views.BookDetail.as_view(), name="book"),
]
