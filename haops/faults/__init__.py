"""Faults, and how each is undone after any ending of the process that caused it."""
