"""``altdispatch.contrib`` with the real packages: ``make contrib`` installs them."""
