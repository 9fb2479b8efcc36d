"""The implementations of the dispatcher that can be tested."""

import sys

from altdispatch import implementations

#: Whether the interpreter counts references: then objects die at once, and the
#: dispatcher can tell whether a list is shared.
COUNTS_REFERENCES = hasattr(sys, "getrefcount")

#: By name. A test with the fixture ``Signal``, ``swapped`` or ``assert_same`` runs with
#: each.
IMPLEMENTATIONS = {
    each.name: each
    for each in (
        implementations.in_python("a test asks for it"),
        implementations.in_use,
    )
}
