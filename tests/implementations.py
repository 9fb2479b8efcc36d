"""The implementations of the dispatcher that are present."""

import altdispatch.dispatcher

#: By name, the ``Signal`` of each. Every test that takes the fixture ``Signal`` or
#: ``swapped``, or compares by ``assert_same``, runs once with each of them.
IMPLEMENTATIONS = {"python": altdispatch.dispatcher.Signal}
