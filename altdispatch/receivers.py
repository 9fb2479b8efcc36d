"""The list behind ``Signal.receivers``, and the index that routes a signal by it.

Django scans the whole list for every connect, every disconnect, and every send
whose answer it doesn't have in its cache. ``Receivers`` is the same list with
an index beside it, by which each of them finds what concerns it alone.

The index follows ``connect()`` and ``disconnect()``. Any other edit drops it, as
programs may do to the list what they like; it is made again when it is next
needed. An entry that ``connect()`` would not have put there, or whose key may be
equal to one of another hash, can't be indexed: as long as there is one, the list
is scanned as Django does. So is a list that somebody else may edit.

The functions that take a signal expect the caller to hold ``signal.lock``.
"""

from __future__ import annotations

import functools
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ReferenceType

from .releases import ENTRY_LENGTH, WATCHES_SENDERS

if TYPE_CHECKING:
    from .dispatcher import Signal

#: The sender key of those that want every sender, as in Django's dispatcher.
NONE_ID = id(None)

T = TypeVar("T")
#: ``(lookup_key, receiver, sender_ref, is_async)``; no ``sender_ref`` on 5.2.
Entry = tuple[Any, ...]
#: An entry without its ``lookup_key``: what a send has to know of it.
Route = tuple[Any, ...]
#: ``(serial, entry)``: see ``Index``.
Numbered = tuple[int, Entry]
#: ``(id of the receiver or dispatch_uid, id of the sender)``
LookupKey = tuple[Any, Any]


class _Remembering(list[T]):
    """A list with something remembered about it, until it is edited.

    To a program it is a list: what it gives when copied, sliced, added to
    another list or pickled is a plain one.
    """

    __slots__ = ("memory",)

    def __init__(self, items: Iterable[T] = ()) -> None:
        self.memory: Any = None
        list.__init__(self, items)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (), None, iter(self)


def _forgetting(name: str) -> Callable[..., Any]:
    edit = getattr(list, name)

    @functools.wraps(edit)
    def edit_and_forget(self: _Remembering[Any], *args: Any, **kwargs: Any) -> Any:
        # Before, so that what the edit removes dies with it, in the list's order.
        self.memory = None
        try:
            return edit(self, *args, **kwargs)
        finally:
            # And after, as it may have been made anew meanwhile. Also after an
            # error: sort() fails with the list half sorted.
            self.memory = None

    return edit_and_forget


for _name in (
    "__delitem__",
    "__iadd__",
    "__imul__",
    "__setitem__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
):
    setattr(_Remembering, _name, _forgetting(_name))


class Receivers(_Remembering[Entry]):
    """The entries of a signal. What it remembers is their index."""

    __slots__ = ()

    def find_index(self) -> Index | None:
        """Return the index, or None where the list has to be scanned."""
        index: Index | None = self.memory
        if index is None or len(self) != index.length:
            # In place before the entries are read: an edit meanwhile, by another
            # thread or in the course of a garbage collection, drops it there.
            self.memory = index = new_index()
            index.fill(tuple(self))
        return index if index.covers(self) else None


class Routes(_Remembering[Route]):
    """The routes of a sender. What it remembers is how to resolve them at once.

    That is the weak references to the receivers, and the one to the sender they
    registered for, if any did. There is no such short cut if a receiver is held
    strongly or asynchronous, or if they registered for more than one sender.
    """

    __slots__ = ()

    def __init__(self, routes: Iterable[Route]) -> None:
        super().__init__(routes)
        self.memory = _short_cut(self)


def _short_cut(routes: Iterable[Route]) -> tuple[list[Any], Any] | None:
    references = []
    sender_refs = {}
    for route in routes:
        receiver = route[0]
        if route[-1] or not isinstance(receiver, ReferenceType):
            return None
        references.append(receiver)
        if WATCHES_SENDERS and (sender_ref := route[1]) is not None:
            sender_refs[id(sender_ref())] = sender_ref
    if len(sender_refs) > 1:
        return None
    return references, next(iter(sender_refs.values()), None)


def resolve(routes: Iterable[Route]) -> tuple[list[Any], list[Any]]:
    """Return the synchronous and the asynchronous receivers that live."""
    short_cut = routes.memory if type(routes) is Routes else None
    if short_cut is None:
        return _resolve_each(routes)
    references, sender_ref = short_cut
    if sender_ref is not None and sender_ref() is None:
        return _resolve_each(routes)
    receivers = []
    for reference in references:
        receiver = reference()
        if receiver is not None:
            receivers.append(receiver)
    return receivers, []


if WATCHES_SENDERS:

    def _resolve_each(routes: Iterable[Route]) -> tuple[list[Any], list[Any]]:
        sync_receivers: list[Any] = []
        async_receivers: list[Any] = []
        for receiver, sender_ref, is_async in routes:
            if isinstance(receiver, ReferenceType):
                receiver = receiver()
                if receiver is None:
                    continue
            if sender_ref is not None and sender_ref() is None:
                continue
            (async_receivers if is_async else sync_receivers).append(receiver)
        return sync_receivers, async_receivers

    def _scan(receivers: Iterable[Entry]) -> Iterator[tuple[LookupKey, Route]]:
        for lookup_key, receiver, sender_ref, is_async in receivers:
            yield lookup_key, (receiver, sender_ref, is_async)

else:

    def _resolve_each(routes: Iterable[Route]) -> tuple[list[Any], list[Any]]:
        sync_receivers: list[Any] = []
        async_receivers: list[Any] = []
        for receiver, is_async in routes:
            if isinstance(receiver, ReferenceType):
                receiver = receiver()
                if receiver is None:
                    continue
            (async_receivers if is_async else sync_receivers).append(receiver)
        return sync_receivers, async_receivers

    def _scan(receivers: Iterable[Entry]) -> Iterator[tuple[LookupKey, Route]]:
        for lookup_key, receiver, is_async in receivers:
            yield lookup_key, (receiver, is_async)


# Types whose values are equal only to values of the same hash, and to themselves,
# which not every float is.
_VALUE_TYPES = frozenset({int, str, bytes, bool, type(None)})


# How deep a tuple may have tuples in it: far below what hashing it can bear.
_MOST_LEVELS = 5


def hashes_as_it_compares(key: object, levels: int = _MOST_LEVELS) -> bool:
    """Return whether a dict finds ``key`` where a scan with ``==`` would.

    True only of what can't tell either: neither runs code of a program's own.
    """
    kind = type(key)
    if kind is tuple:
        for part in key:  # type: ignore[attr-defined]
            if type(part) not in _VALUE_TYPES and (
                levels == 0 or not hashes_as_it_compares(part, levels - 1)
            ):
                return False
        return True
    if kind in _VALUE_TYPES:
        return True
    return kind.__eq__ is object.__eq__ and kind.__hash__ is object.__hash__


class Index:
    """Where in a list of receivers those of a sender, and a single one, are.

    Every entry gets a serial number when it is added, counted from 0 for the
    first in the list. Its position is that number less the count of entries
    before it that have been taken out since.
    """

    __slots__ = (
        "buckets",
        "complete",
        "first",
        "gone",
        "length",
        "next",
        "plain",
        "routes",
        "worn",
    )

    def __init__(self) -> None:
        #: How many entries the list has.
        self.length = 0
        #: Whether all of them are in the index.
        self.complete = False
        #: Whether all sender keys are ids, none the pair of ids of a method.
        self.plain = True
        #: By sender key: (serial, entry) if there is one, else a dict of them by
        #: receiver key.
        self.buckets: dict[Any, Numbered | dict[Any, Numbered]] = {}
        #: sender key -> what a send from it has to know, until the next change
        self.routes: dict[Any, Routes] = {}
        #: The serial that the entry at position 0 would have if none were gone,
        #: and the one of the next entry.
        self.first = 0
        self.next = 0
        #: The serials between them of the entries that are gone, ascending.
        self.gone: list[int] = []
        #: Whether counting them costs more than a new index.
        self.worn = False

    def fill(self, entries: tuple[Entry, ...]) -> None:
        """Add ``entries``; complete only if every one of them can be indexed."""
        for entry in entries:
            if not self._can_hold(entry):
                break
            self.add(entry)
        else:
            self.complete = True
        self.length = len(entries)

    def covers(self, receivers: Receivers) -> bool:
        """Return whether the index is good for ``receivers``, whose memory it is.

        The length tells where a function in C has edited the list behind its back.
        """
        return self.complete and self.length == len(receivers)

    def _can_hold(self, entry: Entry) -> bool:
        if type(entry) is not tuple or len(entry) != ENTRY_LENGTH:
            return False
        key = entry[0]
        if type(key) is not tuple or len(key) != 2 or not hashes_as_it_compares(key):
            return False
        return not self.has(key)

    def add(self, entry: Entry) -> None:
        """Add what is appended to the list."""
        receiver_key, sender_key = entry[0]
        numbered = self.next, entry
        bucket = self.buckets.get(sender_key)
        if bucket is None:
            self.buckets[sender_key] = numbered
            self.plain = self.plain and type(sender_key) is int
        elif isinstance(bucket, dict):
            bucket[receiver_key] = numbered
        else:
            self.buckets[sender_key] = {bucket[1][0][0]: bucket, receiver_key: numbered}
        self.next += 1
        self.length += 1
        self.routes = {}

    def has(self, lookup_key: LookupKey) -> bool:
        """Return whether there is an entry with ``lookup_key``."""
        receiver_key, sender_key = lookup_key
        bucket = self.buckets.get(sender_key)
        if isinstance(bucket, dict):
            return receiver_key in bucket
        return bucket is not None and bucket[1][0][0] == receiver_key

    def take_out(self, lookup_key: LookupKey) -> tuple[int, Entry] | None:
        """Forget the entry with ``lookup_key``.

        Return the position that it has in the list and the entry, or None if
        there is none.
        """
        receiver_key, sender_key = lookup_key
        bucket = self.buckets.get(sender_key)
        if isinstance(bucket, dict):
            if receiver_key not in bucket:
                return None
            serial, entry = bucket.pop(receiver_key)
            if len(bucket) == 1:
                self.buckets[sender_key] = bucket.popitem()[1]
        else:
            if bucket is None or bucket[1][0][0] != receiver_key:
                return None
            serial, entry = self.buckets.pop(sender_key)
        self.length -= 1
        self.routes = {}
        if serial == self.first and not self.gone:
            # In the order of connecting, as many programs disconnect.
            self.first += 1
            return 0, entry
        gone_before = bisect_left(self.gone, serial)
        self.gone.insert(gone_before, serial)
        self.worn = len(self.gone) > 2 * self.length + 100
        return serial - self.first - gone_before, entry

    def find_routes(self, sender_key: Any) -> Routes:
        """Return the routes of those that want this sender, or every sender."""
        numbered: list[Numbered] = []
        for key in {sender_key, NONE_ID}:
            bucket = self.buckets.get(key)
            if isinstance(bucket, dict):
                numbered += bucket.values()
            elif bucket is not None:
                numbered.append(bucket)
        # By the serials, which come first and never tie.
        numbered.sort()
        return Routes([entry[1:] for _, entry in numbered])

    def remember_routes(self, sender_key: Any) -> Routes:
        """Return the same, worked out once until the next change."""
        # A change meanwhile begins a new dict: this answer can't get into it.
        remembered = self.routes
        if sender_key not in self.buckets:
            # So that a sender nobody registered for leaves nothing behind.
            sender_key = NONE_ID
        routes = remembered.get(sender_key)
        if routes is None:
            routes = remembered[sender_key] = self.find_routes(sender_key)
        return routes


#: Makes an index: this one in Python, or its compiled twin.
new_index: Callable[[], Index] = Index


def _is_shared(held: dict[str, Any]) -> bool:
    """Return whether there may be other references to ``held["receivers"]``."""
    if not hasattr(sys, "getrefcount"):
        return True
    # One is the dict's and one the call's.
    return sys.getrefcount(held["receivers"]) > 2


def _find_index(signal: Signal) -> Index | None:
    """Return the index of the signal's receivers, or None where there is none.

    A plain list, from before the swap or put there by a program, is replaced
    by a ``Receivers`` unless there are other references to it.
    """
    receivers = signal.receivers
    if type(receivers) is Receivers:
        index: Index | None = receivers.memory
        if index is not None and index.complete and index.length == len(receivers):
            return index  # As covers() says, without the call.
        return receivers.find_index()
    del receivers  # It would count as somebody else's reference.
    held = vars(signal)
    if type(held.get("receivers")) is not list or _is_shared(held):
        return None
    signal.receivers = adopted = Receivers(held["receivers"])
    return adopted.find_index()


def add(signal: Signal, entry: Entry) -> None:
    """Append ``entry`` to the receivers, unless its lookup key is there."""
    lookup_key = entry[0]
    index = _find_index(signal)
    receivers: Any = signal.receivers
    if index is None or not (
        (type(lookup_key[0]) is int and type(lookup_key[1]) is int)
        or hashes_as_it_compares(lookup_key)
    ):
        if not any(key == lookup_key for key, _ in _scan(receivers)):
            receivers.append(entry)
    elif not index.has(lookup_key):
        list.append(receivers, entry)
        index.add(entry)


def remove(signal: Signal, lookup_key: LookupKey) -> bool:
    """Remove the first entry with ``lookup_key``; return whether there was one."""
    receivers: Any = signal.receivers
    index = receivers.memory if type(receivers) is Receivers else None
    if index is None or not index.complete or index.length != len(receivers):
        # As covers() says, without the call: this is to be no slower than a scan that
        # finds the entry at the front.
        del receivers  # It would count as somebody else's reference.
        index = _find_index(signal)
        receivers = signal.receivers
    if index is not None and (
        (type(lookup_key[0]) is int and type(lookup_key[1]) is int)
        or hashes_as_it_compares(lookup_key)
    ):
        found = index.take_out(lookup_key)
        if found is None:
            return False
        position, entry = found
        if receivers[position] is entry:
            list.pop(receivers, position)
            if index.worn:
                receivers.memory = None
            return True
        # Sorted, or the like, by a function in C behind the index's back.
        receivers.memory = None
    for position, (key, *_) in enumerate(receivers):
        if key == lookup_key:
            del receivers[position]
            return True
    return False


def find_routes(signal: Signal, sender_key: Any) -> Routes:
    """Return the routes of those that want this sender, or every sender.

    They come in the order of connecting. The list may be the index's own: it is
    not to be changed, or given away.
    """
    index = _find_index(signal)
    if index is None or not hashes_as_it_compares(sender_key):
        return Routes(
            [
                route
                for (_, wanted), route in _scan(signal.receivers)
                if wanted == NONE_ID or wanted == sender_key
            ]
        )
    if signal.use_caching:
        return index.find_routes(sender_key)
    return index.remember_routes(sender_key)


def drop_dead(signal: Signal) -> None:
    """Give the signal a new list, without what is dead in the present one."""
    receivers = signal.receivers
    living: list[Entry] = []
    dead: list[Entry] = []
    for entry in receivers:
        (dead if _is_dead(entry) else living).append(entry)
    replacement = Receivers(living)
    if type(receivers) is Receivers:
        # The old list, if anybody keeps it, can do without its index.
        index, receivers.memory = receivers.memory, None
        if index is not None and index.covers(receivers):
            for entry in dead:
                index.take_out(entry[0])
            if not index.worn:
                replacement.memory = index
    signal.receivers = replacement


def give_back_lists(signal: Any) -> None:
    """Let the signal have plain lists, as it had before the swap.

    A ``Receivers`` that somebody else has a reference to stays: what is done to
    it must go on to be seen by the signal.
    """
    with signal.lock:
        held = vars(signal)
        if type(held.get("receivers")) is Receivers and not _is_shared(held):
            signal.receivers = list(held["receivers"])
        cache = signal.sender_receivers_cache
        for sender, routes in list(cache.items()):
            if type(routes) is Routes:
                cache[sender] = list(routes)


def _is_dead(entry: Entry) -> bool:
    if isinstance(entry[1], ReferenceType) and entry[1]() is None:
        return True
    return WATCHES_SENDERS and entry[2] is not None and entry[2]() is None
