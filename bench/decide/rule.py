"""What the judgement of stored pairs rests on beside them, as one hash: another hash is another rule of the gate."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

from bench.decide import gate, nights, selfcheck
from bench.measure import contest
from bench.stats import allocation, change, contrast, interval
from bench.stats import nights as statistics

MODULES = (allocation, change, contest, contrast, gate, interval, nights, selfcheck, statistics)
"""Whose functions and constants decide: which pairs a night takes, what they say, and how nights are drawn."""


def judged(facts: Mapping[str, Any]) -> bool:
    """Whether the findings in a self-check's facts are of the rule of now; those of before there was a hash are not."""
    return bool((facts.get("judged") or {}).get("rule") == fingerprint())


@functools.cache
def fingerprint() -> str:
    """Hash of the sources of `MODULES`, as of an adapter's: whoever changes one of them has to judge anew."""
    digest = hashlib.sha256()
    for module in MODULES:
        digest.update(module.__name__.encode() + b"\0" + inspect.getsource(module).encode() + b"\0")
    return digest.hexdigest()
