"""The bakery's signals, one of them of a subclass."""

from django.dispatch import Signal, receiver

from .. import diary


class CountingSignal(Signal):
    sent = 0

    def send(self, sender, **named):
        self.sent += 1
        return super().send(sender, number=self.sent, **named)


baked = CountingSignal()
sold = Signal(use_caching=True)


@receiver(baked)
@receiver(sold)
def praise(sender, **kwargs):
    return f"praise for {kwargs.get('name', 'all')}, {kwargs.get('number')}"


@receiver(baked)
async def smell(sender, name, **kwargs):
    diary.write("it smells of", name)
