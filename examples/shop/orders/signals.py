from django.dispatch import Signal

#: Sent with ``order``, by the class Order, when a customer has placed an order.
order_placed = Signal()
