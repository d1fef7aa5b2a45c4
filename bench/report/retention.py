"""How much of PyTorch FP32's accuracy a cell keeps, and which class of MLPerf's that is shown to reach.

MLPerf Inference asks most submissions for 99 % of the reference model's accuracy, MLPerf Mobile object detection for
95 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.store.reading import StoredCell
from bench.words.numbers import MISSING, interval, number

CLASSES = (0.99, 0.95)
"""Shares of the reference's mAP50-95, the stricter one first."""
OPEN = "open"


@dataclass(frozen=True)
class Retention:
    """Share of PyTorch FP32's mAP50-95 on the same images, with the ends of its 95 % interval where there is one."""

    share: float
    low: float | None
    high: float | None

    @property
    def reached(self) -> str:
        """The class that the whole interval lies in; `open` where it holds the lowest limit, empty without one."""
        if self.low is None or self.high is None:
            return ""
        for limit in CLASSES:
            if self.low >= limit:
                return f"≥ {limit:.0%}".replace("%", " %")
        return f"< {CLASSES[-1]:.0%}".replace("%", " %") if self.high < CLASSES[-1] else OPEN

    @property
    def text(self) -> str:
        """`98.2 % [97.1, 99.3]`."""
        bounds = [None if value is None else 100 * value for value in (self.low, self.high)]
        return f"{number(100 * self.share, 1)} % {interval(bounds[0], bounds[1], 1)}".strip()


def retention(cell: StoredCell) -> Retention | None:
    """What a cell keeps; None for the reference itself and where there is nothing to compare with.

    The interval is that of the difference, over the reference's mAP taken as it was measured.
    """
    if cell.is_own_reference or cell.map50_95 is None or cell.map_delta is None:
        return None
    reference = cell.map50_95 - cell.map_delta
    if reference <= 0:
        return None
    ends = (None if end is None else 1 + end / reference for end in (cell.map_delta_low, cell.map_delta_high))
    return Retention(cell.map50_95 / reference, *ends)


def shown(cell: StoredCell) -> str:
    """The class, or the share alone where no interval says which; a dash without either."""
    kept = retention(cell)
    return MISSING if kept is None else kept.reached or kept.text
