"""Turns of a time window, and which of them were disturbed: pure functions over what was stored of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEAL_LIMIT = 0.02
"""A turn is contaminated when the hypervisor took more than this share of its CPUs' time ..."""
CPU_SHARE_LIMIT = 0.9
"""... or when the guest got less than this share of the CPU time that is due to it, or that it usually gets."""


@dataclass(frozen=True)
class Turn:
    """One cell's turn in one round: `samples_ms` are its timed inferences, in order.

    `round` counts on through the launches of a window; `order` is the turn's place in its round.  A reference may have
    several turns in a round.  `cpu_due` is the CPU time over wall time that nothing but a disturbance can take from a
    guest, None where an inference may well wait for something else, and in runs from before it was stored.
    """

    cell_id: str
    window: int
    launch: int
    round: int
    order: int
    samples_ms: tuple[float, ...]
    cpu_per_wall: float
    steal: float
    cpu_due: float | None = None


def contaminated(turns: Sequence[Turn]) -> list[bool]:
    """Which turns of one cell of a window were disturbed, in their order: by steal, or by a lack of CPU time.

    A guest that lost CPU all along is seen by what is due to it; one to which nothing is due, by its own median alone.
    """
    usual = float(np.median([turn.cpu_per_wall for turn in turns])) if turns else 0.0
    return [
        turn.steal > STEAL_LIMIT or turn.cpu_per_wall < CPU_SHARE_LIMIT * max(usual, turn.cpu_due or 0.0)
        for turn in turns
    ]


def clean(turns: Sequence[Turn]) -> list[Turn]:
    """Those of one cell's turns that nothing disturbed."""
    return [turn for turn, bad in zip(turns, contaminated(turns), strict=True) if not bad]
