"""The list behind ``Signal.receivers``: how entries are added, removed and found.

A short list is scanned, as Django scans it. A long one becomes a ``Receivers``: the
same list with an index, which tells where the entries of a sender are, and the one of a
lookup key. Building an index costs as much as some scans, so it's built only for a list
that has been scanned that often without an edit.

The index follows ``connect()`` and ``disconnect()``. Any other edit drops it, as
programs may do to the list what they like. It only has numbers and keys: an entry dies
with its place in the list.

The functions that take a signal expect the caller to hold ``signal.lock``. None of them
lets go of the last reference to an entry: its finalizer may use the signal.
"""

from __future__ import annotations

import datetime
import functools
import sys
import uuid
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

from .releases import ENTRY_LENGTH, WATCHES_SENDERS

if TYPE_CHECKING:
    from .dispatcher import Signal

#: The sender key of receivers that get every sender's signals, as in Django.
NONE_ID = id(None)

#: ``(lookup_key, receiver, sender_ref, is_async)``; no ``sender_ref`` on 5.2.
Entry = tuple[Any, ...]
#: An entry without its ``lookup_key``: what Django caches for a sender.
Route = tuple[Any, ...]
#: ``(id of the receiver or dispatch_uid, id of the sender)``
LookupKey = tuple[Any, Any]

# The longest list that is only scanned, and how often a longer one is scanned before it
# gets an index: building one takes about as long.
MOST_SCANNED = 60
_MOST_SCANS = 16


class Receivers(list[Entry]):
    """The entries of a signal with many of them, and their index.

    To a program it is a list: what it gives when copied, sliced, added to another list
    or pickled is a plain one.
    """

    __slots__ = ("memory",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        #: The index; or how often the list was scanned since its last edit; or None
        #: if it can't be indexed.
        self.memory: Index | int | None = 0
        list.__init__(self, entries)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (), None, iter(self)

    def find_index(self) -> Index | None:
        """Return the index, or None where the list has to be scanned."""
        memory = self.memory
        if isinstance(memory, Index):
            if memory.length == len(self):
                return memory
            # Edited by a function in C, behind our back.
            self.memory = memory = 0
        if memory is None:
            return None
        if memory < _MOST_SCANS:
            self.memory = memory + 1
            return None
        index = Index()
        # In place before the entries are read: an edit meanwhile, by another thread or
        # in the course of a garbage collection, drops it there.
        self.memory = index
        is_filled = index.fill(tuple(self))
        if self.memory is not index:
            return None
        if not is_filled:
            self.memory = None
            return None
        return index


def _forgetting(name: str) -> Callable[..., Any]:
    edit = getattr(list, name)

    @functools.wraps(edit)
    def edit_and_forget(self: Receivers, *args: Any, **kwargs: Any) -> Any:
        # Before, so that no look-up meanwhile relies on the index.
        self.memory = 0
        try:
            return edit(self, *args, **kwargs)
        finally:
            # And after, as it may have been built anew meanwhile. Also after an error:
            # sort() fails with the list half sorted.
            self.memory = 0

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
    setattr(Receivers, _name, _forgetting(_name))


# Types whose values are equal only to values of the same hash. A NaN is found by its
# identity in a dict, as in a tuple that is compared.
_VALUE_TYPES = frozenset(
    {int, str, bytes, bool, type(None), float, uuid.UUID, datetime.date}
)


def hashes_as_it_compares(key: object) -> bool:
    """Return whether a dict finds ``key`` where a scan with ``==`` would.

    Where it does, comparing runs no program's code either.
    """
    if type(key) is tuple:
        return all(type(part) in _VALUE_TYPES for part in key)
    return type(key) in _VALUE_TYPES


class Index:
    """Where the entries of a sender are in a list, and the one of a lookup key.

    Every entry gets a serial number when it is added. Its position in the list is that
    number less the count of entries before it that have been taken out since.
    """

    __slots__ = ("by_key", "by_sender", "first", "gone", "length")

    def __init__(self) -> None:
        #: How many entries the list has.
        self.length = 0
        #: The serial of an entry by its lookup key. None if there is a key whose
        #: equality is a program's: connect() and disconnect() scan the list then.
        self.by_key: dict[LookupKey, int] | None = {}
        #: The serials of a sender's entries, ascending; a single one without a list.
        self.by_sender: dict[Any, Any] = {}
        #: The serial that the entry at position 0 would have if none were gone.
        self.first = 0
        #: The serials after it of the entries that are gone, ascending.
        self.gone: list[int] = []

    def fill(self, entries: tuple[Entry, ...]) -> bool:
        """Add ``entries``; return False if they aren't what ``connect()`` adds."""
        for entry in entries:
            if not _is_usual(entry) or self.has(entry[0]):
                return False
            self.add(entry[0])
        return True

    def has(self, lookup_key: LookupKey) -> bool:
        """Return whether an entry is known to have ``lookup_key``."""
        return (
            self.by_key is not None
            and hashes_as_it_compares(lookup_key[0])
            and lookup_key in self.by_key
        )

    def add(self, lookup_key: LookupKey) -> None:
        """Add what is appended to the list."""
        receiver_key, sender_key = lookup_key
        serial = self.first + self.length + len(self.gone)
        if not hashes_as_it_compares(receiver_key):
            self.by_key = None
        elif self.by_key is not None:
            self.by_key[lookup_key] = serial
        serials = self.by_sender.get(sender_key)
        if serials is None:
            self.by_sender[sender_key] = serial
        elif type(serials) is list:
            serials.append(serial)
        else:
            self.by_sender[sender_key] = [serials, serial]
        self.length += 1

    def take_out(self, lookup_key: LookupKey) -> int:
        """Forget the entry with ``lookup_key``, which is known; return its position."""
        assert self.by_key is not None
        serial: int = self.by_key.pop(lookup_key)
        position = serial - self.first
        if self.gone:
            position -= bisect_left(self.gone, serial)
        self._forget(serial, lookup_key[1])
        return position

    def take_out_at(self, position: int, sender_key: Any) -> None:
        """Forget the entry at ``position``, where some keys have an own equality."""
        serial = self.first + position
        for gone in self.gone:
            serial += gone <= serial
        self._forget(serial, sender_key)

    def _forget(self, serial: int, sender_key: Any) -> None:
        serials = self.by_sender[sender_key]
        if type(serials) is list and len(serials) > 1:
            del serials[bisect_left(serials, serial)]
        else:
            del self.by_sender[sender_key]
        self.length -= 1
        if serial == self.first and not self.gone:
            # In the order of connecting, as many programs disconnect.
            self.first += 1
        else:
            insort(self.gone, serial)

    def is_worn(self) -> bool:
        """Return whether so many are gone that a new index costs less."""
        return len(self.gone) > 2 * self.length + 100

    def find_positions(self, sender_key: Any) -> list[int]:
        """Return where the entries of a sender are, and those for every sender."""
        found: list[int] = []
        for key in {sender_key, NONE_ID}:
            serials = self.by_sender.get(key, ())
            found += serials if type(serials) is not int else (serials,)
        found.sort()
        first, gone = self.first, self.gone
        return [serial - first - bisect_left(gone, serial) for serial in found]


def _is_usual(entry: Any) -> bool:
    """Return whether ``connect()`` might have made an entry."""
    return (
        type(entry) is tuple
        and len(entry) == ENTRY_LENGTH
        and type(entry[0]) is tuple
        and len(entry[0]) == 2
        and hashes_as_it_compares(entry[0][1])
    )


def _is_shared(held: dict[str, Any]) -> bool:
    """Return whether there may be other references to ``held["receivers"]``."""
    if not hasattr(sys, "getrefcount"):
        return True
    # One is the dict's and one the call's.
    return sys.getrefcount(held["receivers"]) > 2


def _find_index(signal: Signal) -> Index | None:
    """Return the index of the signal's receivers, or None where there is none.

    A plain list that is long is replaced by a ``Receivers``, unless there are other
    references to it: edits by these would not be seen.
    """
    receivers = signal.receivers
    if type(receivers) is Receivers:
        return receivers.find_index()
    if type(receivers) is not list or len(receivers) <= MOST_SCANNED:
        return None
    del receivers  # It would count as another reference.
    held = vars(signal)
    if type(held.get("receivers")) is not list or _is_shared(held):
        return None
    signal.receivers = adopted = Receivers(held["receivers"])
    return adopted.find_index()


def add(signal: Signal, entry: Entry) -> None:
    """Append ``entry`` to the receivers, unless its lookup key is there."""
    lookup_key = entry[0]
    index = _find_index(signal)
    if (
        index is not None
        and index.by_key is not None
        and hashes_as_it_compares(lookup_key[0])
    ):
        if lookup_key in index.by_key:
            return
    elif _has_key(signal.receivers, lookup_key):
        return
    receivers: Any = signal.receivers
    if type(receivers) is not Receivers:
        receivers.append(entry)
        return
    list.append(receivers, entry)
    # Comparing keys may have run a program's code, which may have edited the list.
    if index is not None and index is receivers.memory:
        index.add(lookup_key)


def remove(signal: Signal, lookup_key: LookupKey) -> Entry | None:
    """Remove the first entry with ``lookup_key`` and return it, None if there's none.

    The caller lets go of it when the lock is released.
    """
    receivers: Any = signal.receivers
    kind = type(receivers)
    if type(lookup_key[0]) is int and (kind is list or kind is Receivers) and receivers:
        # Many programs disconnect in the order of connecting. To update the index would
        # take longer than Django's scan, which finds this entry at once.
        first = receivers[0]
        key = first[0] if type(first) is tuple and first else None
        # Without calling a program's __eq__(), which a scan would call again.
        if type(key) is tuple and key and type(key[0]) is int and key == lookup_key:
            if kind is Receivers:
                receivers.memory = 0
            return list.pop(receivers, 0)  # type: ignore[no-any-return]
        del first, key
    del receivers  # It would count as another reference.
    index = _find_index(signal)
    receivers = signal.receivers
    if (
        index is not None
        and index.by_key is not None
        and hashes_as_it_compares(lookup_key[0])
    ):
        if lookup_key not in index.by_key:
            return None
        position = index.take_out(lookup_key)
        entry: Entry = receivers[position]
        if entry[0] == lookup_key:
            list.pop(receivers, position)
            if index.gone and index.is_worn():
                receivers.memory = 0
            return entry
        # Sorted, or the like, by a function in C behind the index's back.
        receivers.memory, index = 0, None
    for position in range(len(receivers)):
        entry = signal.receivers[position]
        if type(entry) is tuple and entry:
            key = entry[0]
        else:
            key, *_ = entry  # Not what connect() adds: Django's error is due.
        if key == lookup_key:
            if index is not None and index is receivers.memory:
                index.take_out_at(position, key[1])
                list.pop(receivers, position)
            else:
                del signal.receivers[position]
            return entry
    return None


def find_routes(signal: Signal, sender_key: Any) -> list[Route]:
    """Return the routes of the receivers of a sender, in the order of connecting."""
    index = _find_index(signal)
    if index is not None and hashes_as_it_compares(sender_key):
        positions = index.find_positions(sender_key)
        # If most of them are the sender's, a scan takes less time.
        if 4 * len(positions) < index.length:
            receivers: Any = signal.receivers
            entries = [receivers[position] for position in positions]
            if all(
                _is_usual(entry) and entry[0][1] in (sender_key, NONE_ID)
                for entry in entries
            ):
                return [entry[1:] for entry in entries]
            # Sorted, or the like, by a function in C behind the index's back.
            receivers.memory = 0
    return scan(signal.receivers, sender_key)


def give_back_lists(signal: Any) -> None:
    """Let the signal have a plain list, as it had before the swap.

    A ``Receivers`` that a program has a reference to stays: what is done to it must go
    on to be seen by the signal.
    """
    with signal.lock:
        held = vars(signal)
        if type(held.get("receivers")) is Receivers and not _is_shared(held):
            signal.receivers = list(held["receivers"])


def drop_dead(signal: Signal) -> None:
    """Give the signal a new list, without what is dead in the present one."""
    receivers = signal.receivers
    if type(receivers) is not Receivers:
        signal.receivers = [entry for entry in receivers if not _is_dead(entry)]
        return
    living = Receivers()
    dead: list[Entry] = []
    for entry in receivers:
        list.append(dead if _is_dead(entry) else living, entry)
    # The old list, if anybody keeps it, can do without its index.
    index, receivers.memory = receivers.memory, 0
    if (
        isinstance(index, Index)
        and index.length == len(receivers)
        and all(index.has(entry[0]) for entry in dead)
    ):
        for entry in dead:
            index.take_out(entry[0])
        if not index.is_worn():
            living.memory = index
    signal.receivers = living


# What depends on what an entry has. These loops are what most of the time is spent in.

if WATCHES_SENDERS:

    def _has_key(receivers: Iterable[Entry], lookup_key: LookupKey) -> bool:
        """Return whether an entry has ``lookup_key``."""
        for key, _, _, _ in receivers:  # noqa: SIM110 - any() takes longer.
            if key == lookup_key:
                return True
        return False

    def _is_dead(entry: Entry) -> bool:
        """Return whether the receiver of an entry, or its sender, is dead."""
        receiver, sender_ref = entry[1], entry[2]
        return (isinstance(receiver, ReferenceType) and receiver() is None) or (
            sender_ref is not None and sender_ref() is None
        )

    def scan(receivers: Iterable[Entry], sender_key: Any) -> list[Route]:
        """Return the routes of the entries for a sender, or for every sender."""
        return [
            (receiver, sender_ref, is_async)
            for (_, wanted), receiver, sender_ref, is_async in receivers
            if wanted == NONE_ID or wanted == sender_key
        ]

    def resolve(routes: Iterable[Route]) -> tuple[list[Any], list[Any]]:
        """Return the synchronous and the asynchronous receivers that live."""
        sync_receivers: list[Any] = []
        async_receivers: list[Any] = []
        for receiver, sender_ref, is_async in routes:
            if isinstance(receiver, ReferenceType):
                receiver = receiver()
                if receiver is None:
                    continue
            if sender_ref is not None and sender_ref() is None:
                continue
            if is_async:
                async_receivers.append(receiver)
            else:
                sync_receivers.append(receiver)
        return sync_receivers, async_receivers

    def resolve_entries(
        entries: Iterable[Entry], sender_key: Any
    ) -> tuple[list[Any], list[Any]]:
        """Do what ``scan()`` and ``resolve()`` do, without making routes."""
        sync_receivers: list[Any] = []
        async_receivers: list[Any] = []
        for (_, wanted), receiver, sender_ref, is_async in entries:
            if not (wanted == NONE_ID or wanted == sender_key):
                continue
            if isinstance(receiver, ReferenceType):
                receiver = receiver()
                if receiver is None:
                    continue
            if sender_ref is not None and sender_ref() is None:
                continue
            if is_async:
                async_receivers.append(receiver)
            else:
                sync_receivers.append(receiver)
        return sync_receivers, async_receivers

else:

    def _has_key(receivers: Iterable[Entry], lookup_key: LookupKey) -> bool:
        """Return whether an entry has ``lookup_key``."""
        for key, _, _ in receivers:  # noqa: SIM110 - any() takes longer.
            if key == lookup_key:
                return True
        return False

    def _is_dead(entry: Entry) -> bool:
        """Return whether the receiver of an entry is dead."""
        return isinstance(entry[1], ReferenceType) and entry[1]() is None

    def scan(receivers: Iterable[Entry], sender_key: Any) -> list[Route]:
        """Return the routes of the entries for a sender, or for every sender."""
        return [
            (receiver, is_async)
            for (_, wanted), receiver, is_async in receivers
            if wanted == NONE_ID or wanted == sender_key
        ]

    def resolve(routes: Iterable[Route]) -> tuple[list[Any], list[Any]]:
        """Return the synchronous and the asynchronous receivers that live."""
        sync_receivers: list[Any] = []
        async_receivers: list[Any] = []
        for receiver, is_async in routes:
            if isinstance(receiver, ReferenceType):
                receiver = receiver()
                if receiver is None:
                    continue
            if is_async:
                async_receivers.append(receiver)
            else:
                sync_receivers.append(receiver)
        return sync_receivers, async_receivers

    def resolve_entries(
        entries: Iterable[Entry], sender_key: Any
    ) -> tuple[list[Any], list[Any]]:
        """Do what ``scan()`` and ``resolve()`` do, without making routes."""
        sync_receivers: list[Any] = []
        async_receivers: list[Any] = []
        for (_, wanted), receiver, is_async in entries:
            if not (wanted == NONE_ID or wanted == sender_key):
                continue
            if isinstance(receiver, ReferenceType):
                receiver = receiver()
                if receiver is None:
                    continue
            if is_async:
                async_receivers.append(receiver)
            else:
                sync_receivers.append(receiver)
        return sync_receivers, async_receivers
