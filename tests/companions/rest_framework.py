"""The receiver of its documentation that makes tokens, and requests with them."""

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.urls import path
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.decorators import (
    api_view,
    authentication_classes,
    permission_classes,
)
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.test import APIClient

from ._notes import Notes

PACKAGES = ["djangorestframework"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "rest_framework", "rest_framework.authtoken"]
}

KEY = "0123456789abcdef"


@receiver(post_save, sender=settings.AUTH_USER_MODEL)
def create_auth_token(sender, instance=None, created=False, **kwargs):
    if created:
        # A random key would differ between runs.
        Token.objects.create(user=instance, key=f"{KEY}{instance.pk}")


class UserSerializer(ModelSerializer):
    class Meta:
        model = User
        fields = ("id", "username", "email")


@api_view(["GET", "POST"])
@authentication_classes([TokenAuthentication])
@permission_classes([IsAuthenticated])
def users(request):
    if request.method == "POST":
        serializer = UserSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data, status=201)
    everyone = User.objects.order_by("id")
    return Response(UserSerializer(everyone, many=True).data)


urlpatterns = [path("users/", users)]


def drive():
    notes = Notes()
    notes.listen("a user", post_save, sender=User)
    notes.listen("a token", post_save, sender=Token)
    user = User.objects.create(username="ada")
    user.save()
    client = APIClient()
    responses = []
    for header in ["", "Token wrong", f"Token {user.auth_token.key}"]:
        client.credentials(HTTP_AUTHORIZATION=header)
        responses += [
            client.get("/users/"),
            client.post("/users/", {"username": "bob", "email": "bob@example.com"}),
            client.post("/users/", {"username": "ada"}),
        ]
    statuses = [response.status_code for response in responses]
    assert statuses == [401] * 6 + [200, 201, 400]
    assert Token.objects.count() == 2
    tokens = Token.objects.order_by("key").values_list("key", "user__username")
    return [statuses, [response.json() for response in responses], list(tokens), notes]
