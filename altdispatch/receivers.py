"""Add, remove and find entries in the list behind ``Signal.receivers``.

A short list is scanned, as Django scans it. A long list becomes a ``Receivers``: a list
with an index from a sender, and from a lookup key, to the positions of their entries.
Building an index costs as much as some scans, so it's built only for a list that has
been scanned that often without an edit.

``connect()`` and ``disconnect()`` update the index. Any other edit drops it, as a
program may change the list in any way. The index has numbers and keys only, so it keeps
no entry alive.

For the functions that take a signal, the caller holds ``signal.lock``. None of them
drops the last reference to an entry, as its finalizer may use the signal.
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

#: The sender key of receivers that are connected to every sender, as in Django.
NONE_ID = id(None)

#: ``(lookup_key, receiver, sender_ref, is_async)``; no ``sender_ref`` on 5.2.
Entry = tuple[Any, ...]
#: An entry without its ``lookup_key``: what Django caches for a sender.
Route = tuple[Any, ...]
#: ``(id of the receiver or dispatch_uid, id of the sender)``
LookupKey = tuple[Any, Any]

_COUNTS_REFERENCES = hasattr(sys, "getrefcount")

# The longest list that never gets an index, and how often a longer list is scanned
# before it gets one: building it takes about as long as that many scans.
MOST_SCANNED = 60
_MOST_SCANS = 16


class Receivers(list[Entry]):
    """The entries of a signal with many receivers, and their index.

    For programs it behaves like a list: copying, slicing, adding and pickling it gives
    plain lists.
    """

    __slots__ = ("memory",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        #: The index; or the number of scans since the last edit; or None if the list
        #: can't be indexed.
        self.memory: Index | int | None = 0
        list.__init__(self, entries)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (), None, iter(self)

    def find_index(self) -> Index | None:
        """Return the index, or None if the list has to be scanned."""
        memory = self.memory
        if isinstance(memory, Index):
            if memory.length == len(self):
                return memory
            # A function in C has edited the list, which doesn't call the methods below.
            self.memory = memory = 0
        if memory is None:
            return None
        if memory < _MOST_SCANS:
            self.memory = memory + 1
            return None
        index = Index()
        # Set before the entries are read, so that an edit meanwhile drops it. Another
        # thread may edit the list, or a finalizer in a garbage collection.
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
        # Before the edit, so that no look-up uses the index meanwhile.
        self.memory = 0
        try:
            return edit(self, *args, **kwargs)
        finally:
            # And after it, as an index may have been built meanwhile. Also after an
            # error: sort() may leave the list half sorted.
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


# Types whose values are equal only to values with the same hash. A NaN is found by its
# identity, both in a dict and when tuples are compared.
_VALUE_TYPES = frozenset(
    {int, str, bytes, bool, type(None), float, uuid.UUID, datetime.date}
)


def hashes_as_it_compares(key: object) -> bool:
    """Return whether a dict finds ``key`` exactly where a scan with ``==`` would.

    Comparing such a key doesn't run code of the program either.
    """
    if type(key) is tuple:
        return all(type(part) in _VALUE_TYPES for part in key)
    return type(key) in _VALUE_TYPES


class Index:
    """The positions of entries in a list, by their sender and by their lookup key.

    Every entry gets a serial number when it is added. Its position in the list is that
    number minus the count of entries before it that have been removed.
    """

    __slots__ = ("by_key", "by_sender", "first", "gone", "length")

    def __init__(self) -> None:
        #: How many entries the list has.
        self.length = 0
        #: The serial of each entry, by its lookup key. None if a key has its own
        #: __eq__(): connect() and disconnect() then scan the list.
        self.by_key: dict[LookupKey, int] | None = {}
        #: The serials of the entries of each sender key, as an ascending list; a single
        #: serial without a list.
        self.by_sender: dict[Any, Any] = {}
        #: The serial of the entry at position 0, if ``gone`` has none before it.
        self.first = 0
        #: The serials from ``first`` on whose entries have been removed, ascending.
        self.gone: list[int] = []

    def fill(self, entries: tuple[Entry, ...]) -> bool:
        """Add ``entries``; return False if ``connect()`` wouldn't have made them."""
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
        """Add an entry that is appended to the list."""
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
        """Remove the entry with ``lookup_key``, which is there; return its position."""
        assert self.by_key is not None
        serial: int = self.by_key.pop(lookup_key)
        position = serial - self.first
        if self.gone:
            position -= bisect_left(self.gone, serial)
        self._forget(serial, lookup_key[1])
        return position

    def take_out_at(self, position: int, sender_key: Any) -> None:
        """Remove the entry at ``position``, when some keys have their own __eq__()."""
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
            # Many programs disconnect in the order of connecting.
            self.first += 1
        else:
            insort(self.gone, serial)

    def is_worn(self) -> bool:
        """Return whether so many entries were removed that a new index costs less."""
        return len(self.gone) > 2 * self.length + 100

    def find_positions(self, sender_key: Any) -> list[int]:
        """Return the positions of the entries for a sender, or for every sender."""
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
    """Return whether something else may refer to ``held["receivers"]``."""
    if not _COUNTS_REFERENCES:
        return True
    # The dict has one reference, and the call another.
    return sys.getrefcount(held["receivers"]) > 2


def _find_index(signal: Signal) -> Index | None:
    """Return the index of the signal's receivers, or None if there is none.

    Replace a long plain list by a ``Receivers``, unless something else refers to the
    list: the signal would not see edits of it any more.
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


def add(signal: Signal, entry: Entry) -> bool:
    """Append ``entry`` to the receivers, unless one has the same lookup key.

    Return whether it was appended.
    """
    lookup_key = entry[0]
    index = _find_index(signal)
    if (
        index is not None
        and index.by_key is not None
        and hashes_as_it_compares(lookup_key[0])
    ):
        if lookup_key in index.by_key:
            return False
    elif _has_key(signal.receivers, lookup_key):
        return False
    receivers: Any = signal.receivers
    if type(receivers) is not Receivers:
        receivers.append(entry)
        return True
    list.append(receivers, entry)
    # Comparing keys may have run code of the program, which may have edited the list.
    if index is not None and index is receivers.memory:
        index.add(lookup_key)
    return True


def is_key_of_dead(signal: Signal, lookup_key: LookupKey) -> bool:
    """Return whether a receiver's lookup key is that of another one, which is dead.

    PyPy calls the callbacks of weak references some time after it has freed the memory,
    so the signal may not know of that death yet. Keys of a program's own types, whose
    comparison runs its code, are not those of a receiver's id.
    """
    return not _COUNTS_REFERENCES and any(
        _is_usual(entry)
        and hashes_as_it_compares(entry[0][0])
        and entry[0] == lookup_key
        and _is_dead(entry)
        for entry in signal.receivers
    )


def remove(signal: Signal, lookup_key: LookupKey) -> Entry | None:
    """Remove and return the first entry with ``lookup_key``, or return None.

    The caller drops the entry after it has released the lock.
    """
    receivers: Any = signal.receivers
    kind = type(receivers)
    if type(lookup_key[0]) is int and (kind is list or kind is Receivers) and receivers:
        # Many programs disconnect in the order of connecting. A scan finds that entry
        # at once, so updating the index would take longer.
        first = receivers[0]
        key = first[0] if type(first) is tuple and first else None
        # Don't call an __eq__() of the program: a scan would call it a second time.
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
        # A function in C has sorted the list, or the like.
        receivers.memory, index = 0, None
    for position in range(len(receivers)):
        entry = signal.receivers[position]
        if type(entry) is tuple and entry:
            key = entry[0]
        else:
            key, *_ = entry  # Not from connect(): raise Django's error, if any.
        if key == lookup_key:
            if index is not None and index is receivers.memory:
                index.take_out_at(position, key[1])
                list.pop(receivers, position)
            else:
                del signal.receivers[position]
            return entry
    return None


def find_routes(signal: Signal, sender_key: Any) -> list[Route]:
    """Return the routes of a sender's receivers, in the order of connecting."""
    index = _find_index(signal)
    if index is not None and hashes_as_it_compares(sender_key):
        positions = index.find_positions(sender_key)
        # If many of the entries are the sender's, a scan is faster.
        if 4 * len(positions) < index.length:
            receivers: Any = signal.receivers
            entries = [receivers[position] for position in positions]
            if all(
                _is_usual(entry) and entry[0][1] in (sender_key, NONE_ID)
                for entry in entries
            ):
                return [entry[1:] for entry in entries]
            # A function in C has sorted the list, or the like.
            receivers.memory = 0
    return scan(signal.receivers, sender_key)


def give_back_lists(signal: Any) -> None:
    """Give the signal a plain list again, as it had before the swap.

    Keep a ``Receivers`` that a program refers to: the signal must see its edits. Don't
    wait for the lock of other signals: something may hold it for ever.
    """
    if type(vars(signal).get("receivers")) is not Receivers:
        return
    with signal.lock:
        held = vars(signal)
        if type(held.get("receivers")) is Receivers and not _is_shared(held):
            signal.receivers = list(held["receivers"])


def drop_dead(signal: Signal) -> None:
    """Give the signal a new list, without the entries that are dead."""
    receivers = signal.receivers
    if type(receivers) is not Receivers:
        signal.receivers = [entry for entry in receivers if not _is_dead(entry)]
        return
    living = Receivers()
    dead: list[Entry] = []
    for entry in receivers:
        list.append(dead if _is_dead(entry) else living, entry)
    # If something else refers to the old list, it goes on without an index.
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


# These functions depend on the fields of an entry. They're written out for each release
# because most of the time is spent in their loops.

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
        """Return the living receivers: the synchronous ones, the asynchronous ones."""
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
        """Return the living receivers: the synchronous ones, the asynchronous ones."""
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
