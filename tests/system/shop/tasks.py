"""Tasks, on releases of Django that have them."""

from django.tasks import task


@task
def add(a, b):
    return a + b


@task
async def add_asynchronously(a, b):
    return a + b


@task(takes_context=True)
def get_attempt(context):
    return context.attempt


@task
def fail():
    raise LookupError("failed")
