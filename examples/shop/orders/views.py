from django.db.models import Sum
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_GET, require_POST

from catalogue.models import Book

from .models import Line, Order
from .signals import order_placed


@require_POST
def place_order(request):
    book = get_object_or_404(Book, pk=request.POST["book"])
    order = Order.objects.create(customer=request.POST["customer"])
    order.lines.create(book=book, copies=request.POST["copies"])
    order_placed.send_robust(sender=Order, order=order)
    return redirect(book)


@require_GET
def report(request):
    """Tell the average order; an error until there is one, which the demo uses."""
    copies = Line.objects.aggregate(sum=Sum("copies"))["sum"] or 0
    return HttpResponse(f"{copies / Order.objects.count()} copies per order")
