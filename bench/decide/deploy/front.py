"""Which option to deploy for the time that one can spend, or the accuracy that one needs: the front, step by step.

Over several models, or sizes of their input, "the fastest that loses little" is always the smallest: what it loses is
counted against its own model.  So the rule of `recommend.py` is asked again and again, each time for more accuracy than
its last answer has.  What comes out is a staircase: each step is the answer from its own time up to that of the next,
and for every accuracy up to its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.decide.deploy.recommend import QUANTITIES, Candidate, Standing, recommend
from bench.stats.contrast import Contrasts

GAIN = QUANTITIES["loss"].usual or 0.0
"""How much more mAP50-95 a slower step has at least: as much as may usually be lost for speed."""


def front(candidates: Sequence[Candidate], wanted: Mapping[str, float], pairs: Contrasts) -> tuple[Candidate, ...]:
    """The steps among candidates under limits by quantity, fastest first; `pairs` says how their times compare.

    Each meets every limit and is what `recommend` has first under a limit on mAP50-95 that lies `GAIN` above the step
    before.  That one is left out where the next takes no longer by the estimate.
    """
    steps: list[Candidate] = []
    asked = dict(wanted)
    while best := _first(candidates, asked, pairs):
        steps = [step for step in steps if step.time.value < best.time.value]
        steps.append(best)
        reached = best.figures["map"]
        if reached is None:
            break
        asked["map"] = round(reached.value + GAIN, QUANTITIES["map"].digits)
    return tuple(steps)


def _first(candidates: Sequence[Candidate], wanted: Mapping[str, float], pairs: Contrasts) -> Candidate | None:
    meets = recommend(candidates, wanted, pairs).of(Standing.MEETS)
    return meets[0].candidate if meets else None
