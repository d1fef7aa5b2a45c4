"""Figures and parameters as the site writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.decide.claims.statements import Check
from bench.decide.claims.verdicts import KINDS, Finding, Verdict
from bench.words.locale import Locale
from bench.words.numbers import number, significant

FINEST_PX = 0.001
"""Differences below this are shown as such: how much below is of no use to anybody."""
_DIGITS = {"mAP": 4, "days": 0, "releases": 0, "systems": 0, "runtimes": 0, "rank": 0}
# Units of findings -> key of the string that shows them.
_UNITS = {
    "x": "x", "px": "px", "days": "days", "releases": "releases", "systems": "systems", "runtimes": "runtimes",
    "rank": "rank", "share": "share", "mAP": "map", "ms": "ms", "MB": "mb",
}  # fmt: skip
# Worst first: what a reader looks for when the table is sorted by a column.
ORDER = (
    Verdict.REFUTED,
    Verdict.MIXED,
    Verdict.INDICATED_AGAINST,
    Verdict.INCONCLUSIVE,
    Verdict.SUPPORTED,
    Verdict.PARTLY_SUPPORTED,
    Verdict.INDICATED_FOR,
    Verdict.UNTESTED_HERE,
    Verdict.NOT_MEASURABLE,
    Verdict.STALE,
    Verdict.FACT,
)


def figure(locale: Locale, finding: Finding) -> str:
    """The figure of a finding with its interval, as `0.854x [0.826, 0.884]`; empty where it has none."""
    if finding.value is None:
        return ""
    text = amount(locale, finding.value, finding.unit)
    if finding.low is None or finding.high is None or finding.low == finding.high:
        return text
    low, high = (_digits(end, finding.unit) for end in (finding.low, finding.high))
    return f"{text} [{low},\N{NO-BREAK SPACE}{high}]"


def amount(locale: Locale, value: float, unit: str) -> str:
    """A number with its unit in words; a unit without words of its own is written after the number."""
    key = _UNITS.get(unit, "other")
    return locale(f"figure.{key}", value=_digits(value, unit), unit=unit).strip()


def deciding(findings: tuple[tuple[Check, Finding], ...], verdict: Finding) -> Check | None:
    """The check whose figure the combined verdict shows."""
    shown = (verdict.value, verdict.low, verdict.high, verdict.threshold, verdict.unit)
    if verdict.value is None:
        return None
    for check, one in findings:
        if (one.value, one.low, one.high, one.threshold, one.unit) == shown:
            return check
    return None


def ordered(findings: Iterable[tuple[Check, Finding]]) -> list[tuple[Check, Finding]]:
    """Findings that decide or indicate before those that are open, facts last, otherwise as they come."""

    def place(pair: tuple[Check, Finding]) -> int:
        verdict = pair[1].verdict
        if verdict is Verdict.FACT:
            return len(ORDER) + 1
        return len(ORDER) if KINDS[verdict] is None else ORDER.index(verdict)

    return sorted(findings, key=place)


def parameters(check: Check) -> str:
    """A check's parameters on one line, as they stand in the registry: `threshold = 1.0; scope.targets = cpu, cuda`."""
    return "; ".join(f"{key} = {value}" for key, value in _flat(check.parameters))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{key}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _digits(value: float, unit: str) -> str:
    if unit == "share":
        return number(100 * value, 1)
    if unit == "px" and 0 < value < FINEST_PX:
        return f"<\N{NARROW NO-BREAK SPACE}{FINEST_PX:g}"
    return number(value, _DIGITS[unit], sign=unit == "mAP") if unit in _DIGITS else significant(value)
