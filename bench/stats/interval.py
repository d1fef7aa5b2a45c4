"""An estimate with its interval: what every comparison gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval; `low` and `high` are None where one observation gives no spread."""

    value: float
    low: float | None
    high: float | None
