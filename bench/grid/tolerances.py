"""What a change may cost before it is called a regression: `matrices/tolerances.toml`, checked."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bench.grid import entries
from bench.grid.entries import Entry
from bench.grid.metrics import EXACT, SCORE, TIMED
from bench.reasons import UsageError, did_you_mean

__all__ = ["EXACT", "FILE", "SCORE", "TIMED", "Tolerance", "load"]

FILE = "tolerances.toml"


class Tolerance(Entry):
    """The margin of one metric."""

    margin: float = Field(ge=0, lt=1, description="allowed change for the worse: relative, of mAP absolute")
    why: str = Field(min_length=1, description="why it is that, fixed before measuring")


def load(matrices: Path) -> dict[str, Tolerance]:
    """Tolerances by metric.  Raises UsageError naming file and key, also where one lacks or is not known."""
    path = matrices / FILE
    found = {name: entries.parse(Tolerance, value, path, prefix=name) for name, value in entries.read(path).items()}
    known = (*TIMED, *EXACT, SCORE)
    for name in known:
        if name not in found:
            raise UsageError(f"{path}: {name}: missing; give it a margin and why")
    unknown = [name for name in found if name not in known]
    if unknown:
        hint = did_you_mean(unknown, known)
        raise UsageError(f"{path}: unknown {', '.join(unknown)}{hint}; allowed: {', '.join(known)}")
    return found
