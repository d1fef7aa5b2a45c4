"""What the two sides of an A/B execute: a fresh guest of each, with its runtime's own profiler on.

Apart from the pairs, since a profiler costs time, and never the same: these times say where a difference is, not how
large it is.  As in a pair both guests are resident together and take turns, so that what the machine does meets both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from bench.measure.pairs import Conditions, Side, guest_of
from bench.reasons import CellProblem, Reason
from bench.wall.worker import Operator

ROUNDS, INFERENCES = 5, 8
"""Profiles of each side, and inferences of a profile."""


@dataclass(frozen=True)
class Profiles:
    """Operators of both sides by the side's name; of neither where `why` says why not."""

    sides: Mapping[str, Sequence[Operator]]
    why: str = ""


def profile(sides: Mapping[str, Side], conditions: Conditions) -> Profiles:
    """List what a guest of each side executes; an operator's time is the least of several profiles.

    A guest that fails is told in `why` and not raised: what the pairs have decided stands without it.
    """
    deadlines = conditions.deadlines
    rounds: dict[str, list[list[Operator]]] = {name: [] for name in sides}
    try:
        with ExitStack() as stack:
            guests = {}
            for name, side in sides.items():
                guests[name] = stack.enter_context(guest_of(side, conditions))
                guests[name].load(side.spec, timeout=deadlines.load)
                guests[name].outputs(conditions.x, timeout=deadlines.infer)
                if guests[name].profile(1) is None:  # asked before the other is started for nothing
                    runtime, target = side.adapter.stem, side.spec["target"]
                    return Profiles({}, f"{runtime} does not tell its operators on {target}")
            for turn in range(ROUNDS):
                for name in list(sides)[:: 1 if turn % 2 == 0 else -1]:
                    rounds[name].append(guests[name].profile(INFERENCES) or [])
        return Profiles({name: least(profiles) for name, profiles in rounds.items()})
    except CellProblem as problem:
        return Profiles({}, f"they could not be listed: {problem.text}")


def least(profiles: Sequence[Sequence[Operator]]) -> list[Operator]:
    """Several profiles of one model as one, with each operator's least time: whatever disturbs it only adds to it.

    Raises CellProblem(INFERENCE_FAILED) where they list different operators.
    """
    first, *others = (_keyed(profile) for profile in profiles)
    if any(other.keys() != first.keys() for other in others):
        raise CellProblem(Reason.INFERENCE_FAILED, "the profiles of one guest list different operators")
    return [replace(one, ms=min([one.ms, *(other[key].ms for other in others)])) for key, one in first.items()]


def _keyed(profile: Sequence[Operator]) -> dict[tuple[str, str, int], Operator]:
    """Operators by name, type and place among those that share both; ONNX Runtime's order is another each time."""
    seen: Counter[tuple[str, str]] = Counter()
    keyed = {}
    for one in profile:
        seen[one.name, one.type] += 1
        keyed[one.name, one.type, seen[one.name, one.type]] = one
    return keyed
