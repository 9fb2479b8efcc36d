"""Print the number and status of each order's task as JSON: [[number, status], ...].

python -m tests.delivery.queued
"""

import base64
import json
from collections.abc import Iterator

import django


def main() -> None:
    django.setup()
    from django.conf import settings

    print(json.dumps([*ENGINES[settings.DELIVERY_ENGINE]()]))


def in_database() -> Iterator[tuple[int, str]]:
    from django_tasks_db.models import DBTaskResult

    for row in DBTaskResult.objects.values_list("args_kwargs", "status"):
        yield row[0]["kwargs"]["number"], row[1]


def in_rq() -> Iterator[tuple[int, str]]:
    import django_rq
    from rq.job import Job

    connection = django_rq.get_connection()
    for key in connection.scan_iter("rq:job:*", count=1000):
        if connection.type(key) == b"hash":
            job = Job.fetch(key.decode().removeprefix("rq:job:"), connection)
            yield job.kwargs["number"], job.get_status(refresh=False).value


def in_celery() -> Iterator[tuple[int, str]]:
    """Yield the waiting tasks: Celery keeps no record of tasks that were started."""
    import redis
    from django.conf import settings

    connection = redis.Redis(unix_socket_path=settings.REDIS)
    messages = [
        (each, "waiting")
        # Each priority has its own queue.
        for queue in connection.keys("default*")
        for each in connection.lrange(queue, 0, -1)
    ]
    for each in connection.hvals("unacked"):
        messages.append((json.dumps(json.loads(each)[0]).encode(), "unacknowledged"))
    for message, status in messages:
        _, kwargs, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
        yield kwargs["number"], status


ENGINES = {"db": in_database, "rq": in_rq, "celery": in_celery}

if __name__ == "__main__":
    main()
