"""What differs between the releases of Django that altdispatch supports.

Everything else in altdispatch is the same on all of them. A newer release is treated
like the newest known one, if the project forces that: see ``swap.install()``.
"""

from __future__ import annotations

import django

RELEASE = django.VERSION[:2]

#: An entry of ``receivers`` also has a weak reference to its sender, and is dropped
#: after the sender's death. Before, it was ``(lookup_key, receiver, is_async)``.
WATCHES_SENDERS = RELEASE >= (6, 0)

#: A receiver that nothing else refers to lives until ``connect()`` returns. From 6.1 it
#: dies before its entry is in the list.
OUTLIVES_CONNECT = RELEASE < (6, 1)

#: ``asend()`` and ``asend_robust()`` wait for the synchronous receivers before
#: the asynchronous ones are started. Before, all were started together.
SYNC_RECEIVERS_FIRST = RELEASE >= (6, 1)

ENTRY_LENGTH = 4 if WATCHES_SENDERS else 3
