"""What must happen for each order."""

from .models import Order, Receipt

try:
    from django.tasks import task
except ImportError:
    # Before Django 6.0.
    from django_tasks import task


@task()
def send_receipt(order_id):
    Receipt.objects.create(order=Order.objects.get(pk=order_id))
