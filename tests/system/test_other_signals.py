"""Signals of connections, settings and templates, and Django's own receivers."""

import os
import warnings

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.hashers import get_hasher
from django.contrib.auth.models import User
from django.contrib.sites.models import Site
from django.core.signals import setting_changed
from django.db import connections
from django.db.backends.signals import connection_created
from django.template import engines
from django.template.loader import render_to_string
from django.test import Client, modify_settings, override_settings
from django.utils import timezone

from .conftest import DATABASES
from .recording import connected

# Connections


def test_connection_created(compare, new_database):
    def is_connected():
        return connections["scratch"].connection is not None

    def scenario():
        with new_database() as connection:
            connection.ensure_connection()
            connection.ensure_connection()
            connection.close()
            with connection.cursor() as cursor:
                return cursor.execute("SELECT 1").fetchone()

    seen = compare(scenario, sent=["connection_created"], view=is_connected)
    assert len(seen.of("connection_created")) == 2
    assert seen.calls[0].get("connection") == ("database", "scratch")
    assert seen.calls[0].view is True


def test_a_receiver_that_uses_the_connection(compare, new_database):
    def prepare(connection, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE prepared (number integer)")

    def scenario():
        with (
            connected(connection_created, prepare),
            new_database() as connection,
            connection.cursor() as cursor,
        ):
            return cursor.execute("SELECT count(*) FROM prepared").fetchone()

    assert compare(scenario, sent=["connection_created"]).result == [0]


# Settings


def test_setting_changed(compare):
    @override_settings(STATIC_URL="decorated/")
    def decorated():
        return settings.STATIC_URL

    def scenario():
        with override_settings(STATIC_URL="outer/", NEW="a new one"):
            with override_settings(STATIC_URL="inner/"):
                inner = settings.STATIC_URL
            outer = settings.STATIC_URL
            with modify_settings(ALLOWED_HOSTS={"append": "example.com"}):
                hosts = settings.ALLOWED_HOSTS[-1]
        return inner, outer, hosts, decorated(), settings.STATIC_URL

    seen = compare(scenario, sent=["setting_changed"])
    changes = [
        (call.get("setting"), call.get("value"), call.get("enter"))
        for call in seen.of("setting_changed")
        if call.get("setting") != "ALLOWED_HOSTS"
    ]
    assert changes == [
        ("STATIC_URL", "outer/", True),
        ("NEW", "a new one", True),
        ("STATIC_URL", "inner/", True),
        ("STATIC_URL", "/outer/", False),
        ("STATIC_URL", "/static/", False),
        ("NEW", None, False),
        ("STATIC_URL", "decorated/", True),
        ("STATIC_URL", "/static/", False),
    ]


def test_receivers_update_what_depends_on_settings(compare):
    md5 = "django.contrib.auth.hashers.MD5PasswordHasher"
    pbkdf2 = "django.contrib.auth.hashers.PBKDF2PasswordHasher"

    def describe_state():
        return (
            get_hasher().algorithm,
            str(timezone.get_default_timezone()),
            os.environ.get("TZ"),
            [engine.name for engine in engines.all()],
            User._meta.swapped,
            len(apps.get_models()),
        )

    def scenario():
        before = describe_state()
        with override_settings(
            AUTH_USER_MODEL="shop.Customer",
            PASSWORD_HASHERS=[pbkdf2, md5],
            TEMPLATES=[],
            TIME_ZONE="Asia/Kathmandu",
        ):
            during = describe_state()
        return before, during, describe_state()

    seen = compare(scenario, sent=["setting_changed"])
    before, during, after = seen.result
    assert before == after
    assert during == [
        *("pbkdf2_sha256", "Asia/Kathmandu", "Asia/Kathmandu", []),
        *("shop.Customer", before[-1] - 1),
    ]


def test_warning_names_the_line_of_the_override(compare):
    """Django's receiver passes a stacklevel, so the number of frames must be equal."""

    def scenario():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with override_settings(DATABASES={}):
                pass
        return [(str(w.message), w.filename, w.lineno) for w in caught]

    seen = compare(scenario, sent=["setting_changed"])
    [[message, file, line]] = seen.result
    assert message == "Overriding setting DATABASES can lead to unexpected behavior."
    assert (file, line) == (__file__, scenario.__code__.co_firstlineno + 3)


@pytest.mark.parametrize("refused", [True, False])
def test_an_error_in_a_receiver_of_settings(compare, caplog, refused):
    """On entering, the error is raised. On leaving, it is logged."""

    def refuse(setting, enter, **kwargs):
        if enter is refused:
            raise LookupError(f"refused: {setting}")

    def scenario():
        caplog.clear()
        outcome = []
        with connected(setting_changed, refuse):
            try:
                with override_settings(STATIC_URL="other/"):
                    outcome.append(settings.STATIC_URL)
            except LookupError as error:
                outcome.append(error)
        logged = [
            (record.name, record.levelname, record.getMessage(), bool(record.exc_info))
            for record in caplog.records
        ]
        return outcome, settings.STATIC_URL, logged

    seen = compare(scenario, sent=["setting_changed"])
    outcome, after, logged = seen.result
    assert outcome[-1] == ("builtins.LookupError", "refused: STATIC_URL")
    assert after == "/static/"
    assert [name for name, *_ in logged] == ([] if refused else ["django.dispatch"])
    assert [call.get("enter") for call in seen.of("setting_changed")] == [True, False]


# Templates


def test_template_rendered(compare):
    def scenario():
        text = render_to_string("page.html", {"title": "A page"})
        response = Client().get("/page/")
        return (
            text,
            response.content == text.encode(),
            [template.name for template in response.templates],
            response.context["title"],
        )

    seen = compare(scenario, sent=["template_rendered"])
    names = ["page.html", "frame.html", "part.html"]
    rendered = [call.get("template") for call in seen.of("template_rendered")]
    assert rendered == names * 2
    assert seen.result[1:] == [True, names, "A page"]
    assert "title" in seen.calls[0].get("context")


# Django's own receivers


@pytest.mark.django_db(databases=DATABASES)
def test_site_cache_is_cleared_after_a_change(compare_rolled_back):
    def scenario():
        Site.objects.clear_cache()
        names = [Site.objects.get_current().name for _ in range(2)]
        site = Site.objects.get()
        site.name = "Ours"
        site.save()
        names.append(Site.objects.get_current().name)
        site.delete()
        try:
            Site.objects.get_current()
        except Site.DoesNotExist as error:
            return names, error

    seen = compare_rolled_back(scenario, sent=["pre_save", "pre_delete"], sender=Site)
    assert seen.result[0][0] == ["example.com", "example.com", "Ours"]
