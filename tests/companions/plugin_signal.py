"""A subclass of ``Signal`` with its own ``send()``, such as pretix has for plugins."""

from contextlib import suppress

from django.dispatch import Signal
from django.dispatch.dispatcher import NO_RECEIVERS, _make_id

from ._notes import Notes, receivers_of

PACKAGES = []
SETTINGS = {"INSTALLED_APPS": ["altdispatch"]}

notes = Notes()


class PluginSignal(Signal):
    """Send only to the plugins that the sender has enabled."""

    def connect(self, receiver, sender=None, weak=True, dispatch_uid=None):
        if not hasattr(receiver, "plugin"):
            raise ValueError(f"{receiver.__qualname__} is of no plugin")
        return super().connect(receiver, sender, weak, dispatch_uid)

    def send(self, sender, **named):
        return [
            (receiver, receiver(signal=self, sender=sender, **named))
            for receiver in self._enabled(sender)
        ]

    def send_chained(self, sender, name, **named):
        """Pass each receiver's response to the next receiver, as ``name``."""
        for receiver in self._enabled(sender):
            named[name] = receiver(signal=self, sender=sender, **named)
        return named[name]

    def is_connected(self, receiver, sender=None):
        return any(
            entry[0] == (_make_id(receiver), _make_id(sender))
            for entry in self.receivers
        )

    def _enabled(self, sender):
        if (
            not self.receivers
            or self.sender_receivers_cache.get(sender) is NO_RECEIVERS
        ):
            return []
        receivers, _ = self._live_receivers(sender)
        receivers.sort(key=lambda receiver: receiver.plugin)
        return [receiver for receiver in receivers if receiver.plugin in sender.plugins]


class Shop:
    def __init__(self, *plugins):
        self.plugins = plugins


def tax(price, **kwargs):
    notes.append(["tax", price])
    return price * 2


def round_off(price, **kwargs):
    notes.append(["round off", price])
    return price // 10 * 10


def banner(price, **kwargs):
    notes.append(["banner", price])
    return price + 10


def of_no_plugin(**kwargs):
    notes.append("called without a plugin")


tax.plugin = round_off.plugin = "tax"
banner.plugin = "banner"


def drive():
    seen = [play(PluginSignal(use_caching)) for use_caching in (False, True)]
    # Chained: banner() has added 10 to the price of 3.
    assert ["tax", 13] in notes
    return [seen, notes]


def play(signal):
    """Use a signal; return what was observed."""
    both, one, none = Shop("banner", "tax"), Shop("tax"), Shop()
    seen = [observe(signal, both)]
    with suppress(ValueError):
        signal.connect(of_no_plugin)
    signal.connect(tax)
    signal.connect(round_off)
    signal.connect(banner, sender=both)
    # Send more than once, to use what was cached by the first send.
    seen += [observe(signal, shop) for shop in [both, one, none] * 3]
    seen += [receivers_of(signal), signal.is_connected(tax), signal.disconnect(tax)]
    seen += [receivers_of(signal), signal.is_connected(tax), signal.disconnect(tax)]
    seen += [observe(signal, shop) for shop in [both, one] * 2]
    return seen


def observe(signal, shop):
    """Send a signal from one shop; return what was observed."""
    answers = [
        [[receiver.__qualname__, answer] for receiver, answer in send(shop, price=3)]
        for send in (signal.send, signal.send_robust)
    ]
    return {
        "answers": answers,
        "chained": signal.send_chained(shop, "price", price=3),
        "has listeners": signal.has_listeners(shop),
        "has none": signal.sender_receivers_cache.get(shop) is NO_RECEIVERS,
    }
