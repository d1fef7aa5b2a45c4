"""What two states are compared by, by name; light, since the command line lists them in its help."""

from __future__ import annotations

TIMED = ("latency", "load_ms", "first_inference_ms", "peak_rss_bytes")
"""Metrics that pairs of fresh guests say."""
EXACT = ("size_bytes", "env_bytes")
SCORE = "map50_95"
BISECTED = (*TIMED, *EXACT, SCORE, "status")
"""What may have moved from one state to another."""
