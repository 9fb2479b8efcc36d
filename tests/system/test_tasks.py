"""Tasks: the signals from when a task is enqueued until it ends."""

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings

from .recording import SIGNALS, connected

tasks = pytest.importorskip(
    "tests.system.shop.tasks", reason="the tasks framework came with Django 6.0"
)

STARTED_AND_FINISHED = ["task_started", "task_finished"]
ALL = ["task_enqueued", *STARTED_AND_FINISHED]
DUMMY = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}


@pytest.fixture
def compare_logged(compare, caplog):
    """Run ``compare``; the result also has what Django's receivers log."""
    caplog.set_level("DEBUG", "django.tasks")

    def run_both(scenario, *args, **kwargs):
        def run():
            caplog.clear()
            result = scenario()
            logged = [
                (record.levelname, record.funcName, record.exc_info is not None)
                for record in caplog.records
            ]
            return result, logged

        return compare(run, *args, **kwargs)

    return run_both


def statuses(seen):
    return [call.get("task_result")[0] for call in seen.of("task_finished")]


def test_tasks_that_succeed(compare_logged):
    def scenario():
        results = [
            tasks.add.enqueue(1, b=2),
            tasks.add_asynchronously.enqueue(1, 2),
            tasks.get_attempt.enqueue(),
        ]
        return [result.return_value for result in results]

    seen = compare_logged(scenario, sent=ALL)
    values, logged = seen.result
    assert values == [3, 3, 1]
    assert seen.signals() == ALL * 3
    assert statuses(seen) == ["SUCCESSFUL"] * 3
    assert [where for _, where, _ in logged[:3]] == [f"log_{name}" for name in ALL]


def test_a_task_that_fails(compare_logged):
    def scenario():
        result = tasks.fail.enqueue()
        return result.status, [e.exception_class_path for e in result.errors]

    seen = compare_logged(scenario, sent=ALL)
    assert seen.result[0][1] == ["builtins.LookupError"]
    assert statuses(seen) == ["FAILED"]
    # The signal is sent while the error is handled.
    assert seen.result[1][-1] == ["ERROR", "log_task_finished", True]


def test_asynchronous_code(compare_logged):
    async def scenario():
        return (await tasks.add.aenqueue(1, 2)).return_value

    seen = compare_logged(async_to_sync(scenario), sent=ALL, asynchronous=True)
    assert seen.result[0] == 3
    assert [call.signal for call in seen.async_calls[::2]] == ALL


def test_a_backend_that_runs_nothing(compare_logged):
    def scenario():
        with override_settings(TASKS=DUMMY):
            result = tasks.add.enqueue(1, 2)
            waiting = len(tasks.add.get_backend().results)
            return result.status, waiting

    seen = compare_logged(scenario, sent=["task_enqueued"], unsent=STARTED_AND_FINISHED)
    # Django's own receiver of setting_changed applies the setting.
    assert seen.result[0][1] == 1


@pytest.mark.parametrize("signal", STARTED_AND_FINISHED)
def test_an_error_in_a_receiver(compare_logged, signal):
    def refuse(task_result, **kwargs):
        raise LookupError("refused by a receiver")

    def scenario():
        with connected(SIGNALS[signal], refuse):
            try:
                return tasks.add.enqueue(1, 2).status
            except LookupError as error:
                return error

    seen = compare_logged(scenario, sent=["task_enqueued"])
    assert seen.result[0] == ("builtins.LookupError", "refused by a receiver")
