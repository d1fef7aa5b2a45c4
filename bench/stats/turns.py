"""Turns of a time window and what they amount to: pure functions over samples taken by launches and rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from bench.stats.ratio import percentile, ratio_interval

# A turn is contaminated when the hypervisor took more than this share of its CPUs' time ...
STEAL_LIMIT = 0.02
# ... or when the guest got less CPU time per wall time than this share of its own median over the window.
CPU_SHARE_LIMIT = 0.9
# With clean rounds in fewer launches than this an interval says little, so all rounds are used instead.
CLEAN_LAUNCHES_MIN = 3


@dataclass(frozen=True)
class Turn:
    """One cell's turn in one round: `samples_ms` are its timed inferences, in order.

    `round` counts on through the launches of a window.
    """

    cell_id: str
    window: int
    launch: int
    round: int
    order: int
    samples_ms: tuple[float, ...]
    cpu_per_wall: float
    steal: float


@dataclass(frozen=True)
class Summary:
    """What the turns of a cell amount to.  Times in ms; `ratio` is reference time over cell time."""

    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    samples: int
    launches: int
    rounds: int
    contaminated: int


def contaminated_rounds(turns: Sequence[Turn]) -> set[int]:
    """Rounds in which the turns of one cell were disturbed, by steal or by a lack of CPU time."""
    if not turns:
        return set()
    usual = float(np.median([turn.cpu_per_wall for turn in turns]))
    return {turn.round for turn in turns if turn.steal > STEAL_LIMIT or turn.cpu_per_wall < CPU_SHARE_LIMIT * usual}


def summarise(turns: Sequence[Turn], reference: Sequence[Turn]) -> Summary:
    """Summary of a cell from its turns and the reference's turns of the same window.

    Rounds that are contaminated for either are left out, unless too few launches would remain.  An empty `reference`
    (it failed) leaves the ratio out; the reference against itself has the ratio 1 exactly.
    """
    itself = bool(reference) and turns[0].cell_id == reference[0].cell_id
    reference_by_round = {turn.round: turn for turn in reference}
    shared = [turn for turn in turns if not reference or turn.round in reference_by_round]
    bad = contaminated_rounds(turns) | contaminated_rounds(reference)
    clean = [turn for turn in shared if turn.round not in bad]
    own = clean if len({turn.launch for turn in clean}) >= CLEAN_LAUNCHES_MIN else shared
    samples = np.concatenate([turn.samples_ms for turn in own]) if own else np.empty(0)
    launches = [list(group) for _, group in groupby(own, key=lambda turn: turn.launch)]
    interval: tuple[float | None, float | None, float | None] = (None, None, None)
    if itself:
        interval = (1.0, 1.0, 1.0)
    elif reference and own:
        found = ratio_interval(
            [[reference_by_round[turn.round].samples_ms for turn in launch] for launch in launches],
            [[turn.samples_ms for turn in launch] for launch in launches],
        )
        interval = (found.value, found.low, found.high)
    return Summary(
        float(np.median(samples)) if own else math.nan,
        percentile(samples, 90),
        percentile(samples, 99),
        *interval,
        samples=len(samples),
        launches=len(launches),
        rounds=len(own),
        contaminated=sum(turn.round in bad for turn in shared),
    )
