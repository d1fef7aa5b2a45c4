"""What the regression gate is tried on: `matrices/selfcheck.toml`, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bench.grid import entries
from bench.grid.entries import Entry

FILE = "selfcheck.toml"
ITSELF, PLANTED, PLACEBO, POSITIVE, CONTROL = "itself", "planted", "placebo", "positive", "control"
"""Roles of a pair: a cell against itself, against itself with a planted slowdown, or two versions of a package."""

Share = Annotated[float, Field(gt=0, lt=1)]


class Night(Entry):
    """The night that is simulated."""

    minutes: float = Field(gt=0, description="time for all pairs of the sweep")
    nights: int = Field(ge=1, description="how many nights are drawn")


class Shares(Entry):
    """How the time is shared out among roles, for a kind of cell."""

    itself: float = Field(gt=0)
    busy: float = Field(gt=0)
    planted: float = Field(gt=0)
    placebo: float = Field(gt=0)
    positive: float = Field(gt=0)
    control: float = Field(gt=0)


class Accuracy(Entry):
    """Drops of the score that are planted, on how many images they are looked for, and how often."""

    drops: list[Share] = Field(min_length=1)
    images: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    draws: int = Field(ge=1)


class Size(Entry):
    """Growth of an artifact that must always be found."""

    growth: Share


class Sides(Entry):
    """Two versions of a package for the sides of a cell."""

    role: Literal["placebo", "positive", "control"]
    option: str
    precision: str
    base: str = Field(min_length=1)
    candidate: str = Field(min_length=1)
    why: str = Field(min_length=1, description="why they should differ, or should not")


class Plan(Entry):
    """All of it."""

    doses: list[Share] = Field(min_length=1, description="planted slowdowns")
    busy_dose: Share
    night: Night
    shares: Shares
    accuracy: Accuracy
    size: Size
    sides: list[Sides]


def load(matrices: Path) -> Plan:
    """The plan.  Raises UsageError naming file and key."""
    path = matrices / FILE
    return entries.parse(Plan, entries.read(path), path)
