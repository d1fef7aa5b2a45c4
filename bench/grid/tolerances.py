"""What a change may cost before it is called a regression: `matrices/tolerances.toml`, checked."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bench.grid import entries
from bench.grid.entries import Entry
from bench.reasons import UsageError

FILE = "tolerances.toml"


class Tolerance(Entry):
    """The margin of one metric."""

    margin: float = Field(ge=0, lt=1, description="allowed change for the worse: relative, of mAP absolute")
    why: str = Field(min_length=1, description="why it is that, fixed before measuring")


def load(matrices: Path) -> dict[str, Tolerance]:
    """Tolerances by metric.  Raises UsageError naming file and key, also where latency has none."""
    path = matrices / FILE
    found = {name: entries.parse(Tolerance, value, path, prefix=name) for name, value in entries.read(path).items()}
    if "latency" not in found:
        raise UsageError(f"{path}: latency: missing; give it a margin and why")
    return found
