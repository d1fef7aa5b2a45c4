"""How the minutes of a comparison are shared out among cells: more pairs to those whose pairs vary, and are cheap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

PAIRS_MIN, PAIRS_MAX = 6, 400
"""Fewer pairs of a cell decide nothing; more are a waste."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What is known of a cell's pairs: standard deviation of their log ratio, and the seconds that one takes."""

    deviation: float
    seconds: float


def shares(noises: Mapping[str, Noise], seconds: float) -> dict[str, int]:
    """Pairs of each cell that `seconds` suffice for, at least `PAIRS_MIN` and at most `PAIRS_MAX` of each.

    In proportion to deviation over the square root of cost, which makes the sum of the means' variances least (Neyman
    1934; Cochran 1977, 5.5, with costs).  What the bounds give or take is shared out among the others.  The minimum
    is given also where it takes longer than there is time for: whoever takes the pairs looks at the clock.
    """
    found: dict[str, int] = {}
    left, open_ = seconds, dict(noises)
    while open_:
        weights = {name: max(noise.deviation, 1e-6) / math.sqrt(noise.seconds) for name, noise in open_.items()}
        total = sum(weights[name] * noise.seconds for name, noise in open_.items())
        wanted = {name: int(max(left, 0.0) * weights[name] / total) for name in open_}
        # Those below the minimum first: what they take is missing for the rest.
        bound = {name: PAIRS_MIN for name, pairs in wanted.items() if pairs < PAIRS_MIN}
        bound = bound or {name: PAIRS_MAX for name, pairs in wanted.items() if pairs > PAIRS_MAX}
        if not bound:
            return found | wanted
        found |= bound
        left -= sum(pairs * open_.pop(name).seconds for name, pairs in bound.items())
    return found
