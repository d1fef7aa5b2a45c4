"""Detections that are worse by a known amount: what a gate must find before it is believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.tasks.detect.resampling import bootstrap_delta

_STEPS = np.linspace(0.0, 2.0, 7)
"""Where the loss of mAP is computed, as multiples of the share of true positives that the largest drop suggests."""


def worsened(rows: pd.DataFrame, truth: pd.DataFrame, drops: Sequence[float], seed: int) -> list[pd.DataFrame]:
    """Rows without as many of their true positives as make mAP50-95 over all images fall by each of `drops`.

    `rows` are one cell's of the table `detections`, `truth` is the table `ground_truth`.  Which are missed is drawn
    from `seed`; those of a smaller drop are missed in a larger one too.  How many is read off a curve of a few computed
    losses, which bends little: a drop is right to some per cent of itself.
    Raises ValueError where all true positives together are not worth the largest drop.
    """
    missed = np.random.default_rng(seed).permutation(np.flatnonzero(rows["matched"].to_numpy() != 0))
    whole = _loss(rows, rows.iloc[:0], truth)
    if not 0 < max(drops) < whole:
        raise ValueError(f"drops must lie between 0 and the mAP of {whole:.3f}, not at {max(drops)}")
    counts = np.unique(np.clip(np.round(_STEPS * max(drops) / whole * len(missed)), 0, len(missed)).astype(int))
    losses = [_loss(rows, _without(rows, missed[:count]), truth) for count in counts]
    wanted = np.round(np.interp(drops, losses, counts)).astype(int)
    return [_without(rows, missed[:count]) for count in wanted]


def _without(rows: pd.DataFrame, positions: np.ndarray) -> pd.DataFrame:
    kept = np.ones(len(rows), bool)
    kept[positions] = False
    return rows[kept]


def _loss(rows: pd.DataFrame, fewer: pd.DataFrame, truth: pd.DataFrame) -> float:
    """mAP50-95 that fewer rows have lost."""
    return bootstrap_delta(rows, fewer, truth, n=1).value
