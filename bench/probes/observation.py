"""One observation of a probe: a row of probes.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What was seen.  `unavailable`: it could not be looked at here, and the text says what is missing."""

    YES = "yes"
    NO = "no"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Observation:
    """What a probe saw of one subject of one option; `value` in `unit` is the figure behind it, where there is one."""

    option: str
    subject: str
    outcome: Outcome
    text: str
    value: float | None = None
    unit: str = ""


class Unavailable(Exception):
    """A probe, or one subject of it, cannot be looked at on this machine; the message says what would be needed."""


def verdict(holds: bool) -> Outcome:
    """`yes` or `no`."""
    return Outcome.YES if holds else Outcome.NO


def unavailable(option: str, subject: str, why: object) -> Observation:
    """The row of what could not be looked at, with the first line of why: the rest is for a terminal."""
    return Observation(option, subject, Outcome.UNAVAILABLE, (str(why).splitlines() or [""])[0])
