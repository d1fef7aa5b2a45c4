"""Measuring: a run prepared, its cells taken through the instruments, and timed together."""
