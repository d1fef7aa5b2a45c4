"""Operators of the full-integer TF Lite file against the list of what Coral's Edge TPU compiler maps.

The export did the counting and the judging (bench/guest/exporters/edgetpu.py, which cites the list); this makes rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.probes.context import Context
from bench.probes.observation import Observation, verdict

OPTION = "edgetpu"


def observe(context: Context) -> Iterator[Observation]:
    """A row per operator, and one with the share of all occurrences that the list has.  Raises Unavailable."""
    yield from judge(context.subject(OPTION, "int8-full").artifact.manifest["details"])


def judge(details: Mapping[str, Any]) -> Iterator[Observation]:
    """Rows out of the exporter's details: `operators`, `unlisted` (counts by name), `limited`, `source`, `compiler`."""
    counts: Mapping[str, int] = details["operators"]
    unlisted, limited = details["unlisted"], details["limited"]
    for name, count in counts.items():
        listed = "not in the compiler's list" if name in unlisted else "in the compiler's list"
        text = f"{listed}, within limits: {limited[name]}" if name in limited else listed
        yield Observation(OPTION, name, verdict(name not in unlisted), text, float(count), "operators")
    total = sum(counts.values())
    share = 1.0 - sum(unlisted.values()) / total
    text = f"{total - sum(unlisted.values())} of {total} operators are in the list at {details['source']}. "
    yield Observation(OPTION, "all", verdict(not unlisted), text + str(details["compiler"]), share, "0..1")
