"""Authentication: log in, fail to, log out; with functions and forms."""

import datetime

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.test import AsyncClient, Client, RequestFactory

from .conftest import DATABASES, rolled_back
from .recording import connected

pytestmark = pytest.mark.django_db(databases=DATABASES)

LONG_AGO = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
PASSWORD = "open sesame"
LOGIN_FORM = "/admin/login/?next=/admin/"


@pytest.fixture(autouse=True)
def user():
    """Create a superuser whose last login was long ago."""
    return User.objects.create_superuser("ann", password=PASSWORD, last_login=LONG_AGO)


@pytest.fixture
def compare_auth(compare):
    """Run ``compare``, and roll back the changes of the scenario.

    The result is that of the scenario, and whether the user's last login was updated.
    """

    def run_both(scenario, *args, **kwargs):
        def run():
            with rolled_back():
                return scenario(), is_login_updated()

        return compare(run, *args, **kwargs)

    return run_both


def is_login_updated():
    return User.objects.get().last_login > LONG_AGO


def make_request(user=None):
    request = RequestFactory().get("/somewhere/")
    request.session = SessionStore()
    request.user = user or AnonymousUser()

    async def auser():
        return request.user

    request.auser = auser
    return request


# With functions


def test_login_and_logout(compare_auth):
    def scenario():
        request = make_request()
        user = auth.authenticate(request, username="ann", password=PASSWORD)
        auth.login(request, user)
        logged_in = request.user.username, sorted(request.session.keys())
        auth.logout(request)
        auth.logout(request)
        return logged_in, request.user.is_anonymous, list(request.session.keys())

    seen = compare_auth(
        scenario, sent=["user_logged_in", "user_logged_out"], view=is_login_updated
    )
    # Django's own receiver, connected first, has updated it.
    assert [call.view for call in seen.of("user_logged_in")] == [True]
    users = [call.get("user") for call in seen.of("user_logged_out")]
    assert [user and user[0] for user in users] == ["auth.User", None]


def test_the_last_login_is_saved(compare_auth):
    def scenario():
        auth.login(
            make_request(), User.objects.get(), settings.AUTHENTICATION_BACKENDS[0]
        )

    seen = compare_auth(scenario, sent=["pre_save", "post_save"], sender=User)
    saved, *_ = seen.of("post_save")
    assert saved.get("update_fields") == ("set", ["last_login"])
    assert seen.result == [None, True]


def test_wrong_credentials(compare_auth):
    def scenario():
        return [
            auth.authenticate(None, username="ann", password="wrong"),
            auth.authenticate(make_request(), username="bob", password=PASSWORD),
            auth.authenticate(make_request(), token="unknown to every backend"),
        ]

    seen = compare_auth(scenario, sent=["user_login_failed"], unsent=["user_logged_in"])
    assert seen.result == [[None, None, None], False]
    first, *_ = seen.of("user_login_failed")
    assert first.get("sender") == "django.contrib.auth"
    assert first.get("credentials") == {"username": "ann", "password": "*" * 20}


def test_asynchronous_functions(compare_auth):
    async def scenario():
        request = make_request()
        failed = await auth.aauthenticate(request, username="ann", password="wrong")
        user = await auth.aauthenticate(request, username="ann", password=PASSWORD)
        await auth.alogin(request, user)
        logged_in = request.user.username
        await auth.alogout(request)
        return failed, logged_in, request.user.is_anonymous

    seen = compare_auth(
        async_to_sync(scenario),
        sent=["user_login_failed", "user_logged_in", "user_logged_out"],
        view=is_login_updated,
    )
    assert seen.result == [[None, "ann", True], True]
    assert seen.of("user_logged_in")[0].view is True


def test_asynchronous_receivers(compare_auth):
    """Synchronous and asynchronous functions call them."""
    calls = []

    async def receive(sender, user, request, **kwargs):
        calls.append((user.username, request.path))

    async def log_in(request, user):
        await auth.alogin(request, user)

    def scenario():
        calls.clear()
        with connected(user_logged_in, receive):
            user = auth.authenticate(username="ann", password=PASSWORD)
            auth.login(make_request(), user)
            async_to_sync(log_in)(make_request(), user)
        return list(calls)

    seen = compare_auth(scenario, sent=["user_logged_in"])
    assert seen.result == [[["ann", "/somewhere/"]] * 2, True]


def test_an_error_in_a_receiver(compare_auth):
    def refuse(sender, **kwargs):
        raise LookupError("refused by a receiver")

    def scenario():
        user = auth.authenticate(username="ann", password=PASSWORD)
        with connected(user_logged_in, refuse):
            try:
                with transaction.atomic():
                    auth.login(make_request(), user)
            except LookupError as error:
                return error

    seen = compare_auth(scenario, sent=["user_logged_in"])
    assert seen.result == [("builtins.LookupError", "refused by a receiver"), False]


# With the forms of the admin


def visit(client, method, path, **data):
    response = getattr(client, method)(path, data)
    return describe(response)


async def avisit(client, method, path, **data):
    response = await getattr(client, method)(path, data)
    return describe(response)


def describe(response):
    templates = [template.name for template in response.templates]
    return response.status_code, response.headers.get("Location"), templates


VISITS = [
    ("get", LOGIN_FORM, {}),
    ("post", LOGIN_FORM, {"username": "ann", "password": "wrong"}),
    ("post", LOGIN_FORM, {"username": "ann", "password": PASSWORD}),
    ("get", "/admin/", {}),
    ("post", "/admin/logout/", {}),
    ("get", "/admin/", {}),
]
SENT = [
    "request_started",
    "request_finished",
    "template_rendered",
    "user_logged_in",
    "user_logged_out",
    "user_login_failed",
]


def check_visits(seen):
    visits, _ = seen.result
    assert [status for status, *_ in visits] == [200, 200, 302, 200, 200, 302]
    users = [signal for signal in seen.signals() if signal.startswith("user")]
    assert users == ["user_login_failed", "user_logged_in", "user_logged_out"]
    assert len(seen.of("request_finished")) == len(VISITS)
    failed, *_ = seen.of("user_login_failed")
    assert failed.get("request") == ("request", "POST", "/admin/login/")


def test_the_admin(compare_auth):
    def scenario():
        client = Client()
        return [visit(client, how, path, **data) for how, path, data in VISITS]

    seen = compare_auth(scenario, sent=SENT)
    check_visits(seen)
    assert seen.result[1] is True


def test_the_admin_asynchronously(compare_auth):
    async def scenario():
        client = AsyncClient()
        return [await avisit(client, how, path, **data) for how, path, data in VISITS]

    seen = compare_auth(async_to_sync(scenario), sent=SENT)
    check_visits(seen)
