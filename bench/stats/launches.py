"""Launches of a timed cell: what starting each of its processes took, and what that amounts to; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.stats.interval import Interval


@dataclass(frozen=True)
class Launch:
    """One process of a timed cell: import, load and first inference in ms, and the most memory it held, in bytes.

    `device_ms` is an inference on its GPU alone, `device_graph_ms` that as a CUDA graph; None where it tells neither.
    """

    cell_id: str
    window: int
    launch: int
    import_ms: float
    load_ms: float
    first_inference_ms: float
    peak_rss_bytes: int
    device_ms: float | None = None
    device_graph_ms: float | None = None


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Median of a figure over launches, with the distribution-free interval of the true median.

    Its ends are order statistics (Conover 1999, section 3.2), so nothing is supposed of how launches are spread, and a
    first one from a cold cache moves no end by its size.  Fewer than six values bound no median at 95 %: no ends.
    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no launch, so there is no median")
    from scipy.stats import quantile_test  # takes half a second, and only runs of several processes ask

    found = quantile_test(values, p=0.5).confidence_interval(confidence)
    ends = found.low, found.high  # type: ignore[attr-defined]  # scipy-stubs call the pair a float
    low, high = (None if np.isnan(end) else float(end) for end in ends)
    return Interval(float(np.median(values)), low, high)
