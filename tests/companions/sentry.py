"""Spans of signals, and errors, with ``sentry_sdk.init()`` before the swap."""

from functools import partial
from wsgiref.util import setup_testing_defaults

from django.apps import apps
from django.contrib.auth.models import Group, User
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db.models.signals import m2m_changed, post_delete, post_init, post_save
from django.dispatch import Signal
from django.http import HttpResponse
from django.urls import path

from ._notes import Notes
from ._sentry import initialize

PACKAGES = ["sentry-sdk"]
SETTINGS = {"INSTALLED_APPS": ["tests.companions._sentry.Sentry", "altdispatch"]}

#: Modules of the dispatchers, whose frames differ: see
#: docs/explanation/differences.rst.
DISPATCHERS = {"django.dispatch.dispatcher", "altdispatch.dispatcher"}

notes = Notes()
ordered = Signal()
cancelled = Signal(use_caching=True)


class Stock:
    def __call__(self, **kwargs):
        notes.append("called: an instance")

    def count(self, **kwargs):
        notes.append("called: a method")


async def write_email(**kwargs):
    notes.append("called: an asynchronous function")


def refuse(number, **kwargs):
    raise ValueError(f"no {number}")


def bill(prefix, number, **kwargs):
    return f"{prefix} {number}"


def create(request):
    group = Group.objects.create(name="readers")
    user = User.objects.create(username=f"user {User.objects.count()}")
    user.groups.add(group)
    group.delete()
    answers = ordered.send_robust(sender=User, number=1)
    return HttpResponse(f"{answer!r}\n" for _, answer in answers)


def cancel(request):
    cancelled.send(sender=User, number=2)


urlpatterns = [path("create/", create), path("cancel/", cancel)]


def drive():
    stock = Stock()
    connect(stock)
    everything = play(apps.get_app_config("sentry").transport)
    less = play(initialize(signals_denylist=[post_init, ordered]))
    none = play(initialize(signals_spans=False))
    assert count_spans(everything) > count_spans(less) > count_spans(none) == 0
    assert len(everything["errors"]) == len(less["errors"]) == len(none["errors"]) == 2
    return [everything, less, none]


def connect(stock):
    """Connect a receiver of each kind, and one that records to each signal."""
    notes.listen_to(
        {
            "started": request_started,
            "finished": request_finished,
            "made": post_init,
            "saved": post_save,
            "deleted": post_delete,
            "changed": m2m_changed,
            "ordered": ordered,
            "cancelled": cancelled,
        }
    )
    post_save.connect(stock.count, sender=User)
    ordered.connect(stock)
    ordered.connect(write_email)
    ordered.connect(partial(bill, "bill"), weak=False)
    ordered.connect(refuse, sender=User)
    cancelled.connect(refuse)
    cancelled.connect(write_email)


def play(transport):
    """Make requests; return what was observed."""
    application = get_wsgi_application()
    return {
        "answers": [get(application, path) for path in ("/create/", "/cancel/")],
        "calls": notes.take(),
        "transactions": [describe(item) for item in transport.items["transaction"]],
        "errors": [describe_error(item) for item in transport.items["event"]],
    }


def get(application, path):
    """Make a request as a server does; Sentry makes a transaction of it."""
    answer = []
    environ = {"PATH_INFO": path, "HTTP_HOST": "testserver"}
    setup_testing_defaults(environ)
    response = application(environ, lambda status, headers: answer.append(status))
    answer += [part.decode() for part in response]
    response.close()
    return answer


def count_spans(seen):
    return sum(
        span["op"] == "event.django"
        for _, spans in seen["transactions"]
        for span in spans
    )


def describe(transaction):
    """Return the spans of a transaction, each with the name of its parent."""
    trace = transaction["contexts"]["trace"]
    names = {span["span_id"]: span["description"] for span in transaction["spans"]}
    names[trace["span_id"]] = transaction["transaction"]
    spans = [
        {
            **{
                name: span.get(name)
                for name in ("op", "description", "origin", "status")
            },
            "signal": span["data"].get("signal"),
            "in": names[span["parent_span_id"]],
        }
        for span in transaction["spans"]
    ]
    return [[transaction["transaction"], trace["op"], trace["status"]], spans]


def describe_error(event):
    """Return an error and its frames without those of the dispatcher."""
    errors = [
        [
            error["type"],
            error["value"],
            error["mechanism"]["type"],
            [
                frame["function"]
                for frame in error["stacktrace"]["frames"]
                if frame["module"] not in DISPATCHERS
            ],
        ]
        for error in event["exception"]["values"]
    ]
    return [event["transaction"], event.get("logger"), event.get("logentry"), errors]
