"""Management commands: migrate and flush, and what their receivers create."""

import io

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate

from .recording import connected

MIGRATE = ["pre_migrate", "post_migrate"]
APPS = ["admin", "auth", "contenttypes", "sessions", "sites", "shop"]


@pytest.fixture
def compare_commands(compare, new_database):
    """Run ``compare`` with a scenario that has an empty database.

    The scenario gets a function that runs a management command on that database and
    returns its output. The tables that Django's receivers fill are compared too.
    """

    def run(command, *args, **options):
        printed = io.StringIO()
        call_command(
            command,
            *args,
            database="scratch",
            interactive=False,
            no_color=True,
            stdout=printed,
            **options,
        )
        return printed.getvalue()

    def run_both(scenario, *args, **kwargs):
        def run_once():
            ContentType.objects.clear_cache()
            Site.objects.clear_cache()
            with new_database():
                return scenario(run), contents()

        return compare(run_once, *args, view=count_rows, **kwargs)

    return run_both


def rows_of(model):
    """Return the rows of a model, or None without its table."""
    connection = connections["scratch"]
    if model._meta.db_table not in connection.introspection.table_names():
        return None
    return list(model.objects.using("scratch").order_by("pk").values_list())


def contents():
    return [rows_of(model) for model in (ContentType, Permission, Site)]


def count_rows():
    return [rows and len(rows) for rows in contents()]


def migrate(run):
    return run("migrate", run_syncdb=True)


def test_migrate(compare_commands):
    seen = compare_commands(migrate, sent=MIGRATE)
    labels = [call.get("sender")[1] for call in seen.of("pre_migrate")]
    assert labels == APPS
    assert seen.signals() == ["pre_migrate"] * 6 + ["post_migrate"] * 6
    _, (content_types, permissions, sites) = seen.result
    assert len(permissions) == 4 * len(content_types) > 0
    assert sites == [[1, "example.com", "example.com"]]
    # Django's own receivers create rows for each app that was migrated.
    counts = [call.view for call in seen.of("post_migrate")]
    assert counts[0] != counts[-1] == [len(rows) for rows in seen.result[1]]


def test_plan(compare_commands):
    def scenario(run):
        return (
            run("migrate", "auth", "0002"),
            run("migrate", "auth"),
            run("migrate", "auth"),
            run("migrate", "auth", "0011"),
            run("migrate", "sites", "zero", verbosity=0),
        )

    seen = compare_commands(scenario, sent=MIGRATE)
    plans = [call.get("plan") for call in seen.of("pre_migrate")[:: len(APPS)]]
    # Entries are (migration, is undone). auth depends on contenttypes.
    assert [len(plan) for plan in plans] == [3, 11, 0, 1, 0]
    assert plans[3] == [["auth.0012_alter_user_first_name_max_length", True]]


def test_receivers_of_one_app(compare_commands):
    seen = compare_commands(migrate, sent=MIGRATE, sender=apps.get_app_config("shop"))
    assert len(seen.calls) == 4
    assert "shop.Book" in seen.of("post_migrate")[0].get("apps")


def test_flush(compare_commands):
    def scenario(run):
        migrate(run)
        Site.objects.using("scratch").update(name="Ours")
        Permission.objects.using("scratch").first().delete()
        return (
            contents(),
            run("flush", verbosity=2),
            contents(),
            run("flush", inhibit_post_migrate=True),
        )

    seen = compare_commands(scenario, sent=["post_migrate"])
    (before, _, after, _), final = seen.result
    assert (before[2][0][2], after[2][0][2]) == ("Ours", "example.com")
    assert len(after[1]) == len(before[1]) + 1
    assert final == [[], [], []]
    assert len(seen.of("post_migrate")) == 2 * len(APPS)


def test_an_error_in_a_receiver(compare_commands):
    def refuse(sender, **kwargs):
        raise LookupError(f"refused: {sender.label}")

    def scenario(run):
        errors = []
        for signal in (pre_migrate, post_migrate):
            with connected(signal, refuse):
                try:
                    migrate(run)
                except LookupError as error:
                    errors.append(error)
        return errors

    seen = compare_commands(scenario, sent=MIGRATE)
    assert len(seen.result[0]) == 2
    assert len(seen.of("post_migrate")) == 1


def test_no_signals_without_a_migration(compare_commands):
    def scenario(run):
        try:
            run("migrate", "no_such_app")
        except CommandError as error:
            return error, run("migrate", "auth", "zero", plan=True)

    seen = compare_commands(scenario, unsent=MIGRATE)
    (error, plan), _ = seen.result
    assert error[0] == "django.core.management.base.CommandError"
    assert "Planned operations" in plan
