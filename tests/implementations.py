"""The implementations of the dispatcher that are present."""

from altdispatch import implementations

#: By name. Every test that takes the fixture ``Signal`` or ``swapped``, or compares by
#: ``assert_same``, runs once with each of them.
IMPLEMENTATIONS = {
    each.name: each
    for each in (
        implementations.in_python("a test asks for it"),
        implementations.in_use,
    )
}
