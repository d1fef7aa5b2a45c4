"""How often the intervals of simulated windows hold the truth, with every rule on; docs/method.md has the long run."""

from __future__ import annotations

import pytest
from simulated import ALIKE, PROCESSES, RECORDED, coverage

from bench.grid.schema import Latency

TWO_STAGES = Latency(rounds=2, min_launches=6, max_launches=14, half_width=0.02)


@pytest.mark.parametrize("kind", PROCESSES)
def test_intervals_hold_the_truth_in_normal_skewed_and_slow_processes(kind: str) -> None:
    """120 windows of four cells; the seed is fixed, and the long run has the share to a third of a per cent."""
    found = coverage(ALIKE[kind], TWO_STAGES, windows=120)
    assert found.held >= 0.93
    assert TWO_STAGES.min_launches < found.launches < TWO_STAGES.max_launches, "both stages were at work"


def test_intervals_hold_the_truth_where_the_noise_is_the_references() -> None:
    assert coverage(RECORDED["normal"], TWO_STAGES, windows=120).held >= 0.93
