"""What the tests' own sweeps share."""

from __future__ import annotations

LATENCY_OF_SECONDS = """
[latency]
samples = 3
warmup = 1
rounds = 2
min_launches = 3
max_launches = 3
half_width = 0.5
budget_s = 20
"""
"""The end of a sweep whose latency takes seconds: as few launches as still give an interval."""
