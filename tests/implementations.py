"""The implementations of the dispatcher that are present."""

import sys

from altdispatch import implementations

#: Whether objects go with their last reference, and it can be told if there are others.
COUNTS_REFERENCES = hasattr(sys, "getrefcount")

#: By name. Every test that takes the fixture ``Signal`` or ``swapped``, or compares by
#: ``assert_same``, runs once with each of them.
IMPLEMENTATIONS = {
    each.name: each
    for each in (
        implementations.in_python("a test asks for it"),
        implementations.in_use,
    )
}
