"""Test ``altdispatch.contrib`` with the real packages: ``make contrib``."""
