"""What the turns of a cell amount to beside those of its reference: pure functions over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.stats.contrast import Readings, by_launch, mean, ratio, shared
from bench.stats.percentile import percentile_bound
from bench.stats.turns import Turn, clean


@dataclass(frozen=True)
class Summary:
    """What the turns of a cell amount to.  Times in ms; `ratio` is reference time over cell time.

    `p90_ms` and `p99_ms` are bounds (`percentile_bound`).  `autocorrelation` is that of neighbouring launches.
    `contaminated` counts rounds.  Where `disturbed`, too few launches had a clean round: then contaminated ones are in
    the figures, and there is neither an interval nor a bound.
    """

    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    autocorrelation: float | None
    samples: int
    launches: int
    rounds: int
    contaminated: int
    disturbed: bool


@dataclass(frozen=True)
class Compared:
    """The turns of a cell that count, and the log ratio of each launch, reference over cell, (launches,) in order.

    `contaminated` is the number of rounds that were disturbed for either; `disturbed` as in `Summary`.
    """

    turns: list[Turn]
    logs: NDArray[np.float64]
    contaminated: int
    disturbed: bool


def compare(turns: Sequence[Turn], reference: Sequence[Turn]) -> Compared:
    """Choose the turns of a cell of one window that count, and compare them with the reference's (`by_launch`).

    What is contaminated for either is left out, unless clean turns of fewer than `LAUNCHES_MIN` launches would remain.
    An empty `reference` (it failed) leaves nothing to compare with, and every turn may count.
    """
    own = Readings.of(turns)
    other = Readings.of(reference) if reference else own
    undisturbed = own.clean.keys() & other.clean.keys()
    used = set(shared(own, other))
    disturbed = not used <= undisturbed
    return Compared(
        [turn for turn in (turns if disturbed else clean(turns)) if (turn.window, turn.launch, turn.round) in used],
        np.array(list(by_launch(other, own).values()) if reference else []),
        len((own.rounds.keys() & other.rounds.keys()) - undisturbed),
        disturbed,
    )


def summarise(turns: Sequence[Turn], reference: Sequence[Turn]) -> Summary:
    """Summary of a cell from its turns and the reference's turns of the same window.

    An empty `reference` leaves the ratio out; the reference against itself has the ratio 1 exactly.
    """
    compared = compare(turns, reference)
    used, disturbed = compared.turns, compared.disturbed
    samples = np.concatenate([turn.samples_ms for turn in used]) if used else np.empty(0)
    found: tuple[float | None, float | None, float | None] = (None, None, None)
    autocorrelation = None
    if reference and turns[0].cell_id == reference[0].cell_id:
        found = (1.0, 1.0, 1.0)
    elif compared.logs.size:
        over_launches = mean(compared.logs)
        interval, autocorrelation = ratio(over_launches), over_launches.autocorrelation
        found = (interval.value, None, None) if disturbed else (interval.value, interval.low, interval.high)
    return Summary(
        float(np.median(samples)) if used else math.nan,
        None if disturbed else percentile_bound(samples, 90),
        None if disturbed else percentile_bound(samples, 99),
        *found,
        autocorrelation=autocorrelation,
        samples=len(samples),
        launches=len({turn.launch for turn in used}),
        rounds=len({turn.round for turn in used}),
        contaminated=compared.contaminated,
        disturbed=disturbed,
    )
