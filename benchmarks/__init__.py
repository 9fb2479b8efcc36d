"""What signals cost: stock Django's and altdispatch's, measured side by side."""
