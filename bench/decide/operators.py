"""Which operators grew: what two sides execute held against each other, by type and by name; pure.

Numbers of operators are exact and may be compared as such.  Their times are a profiler's, from one process of each
side: they say where a difference in time is, and the pairs say how large it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.store.operators import Operator

NAMES = 20
"""How many single operators the facts name; the stored table has all."""


class _Changed:
    """What has a time on each side, ms."""

    __slots__ = ()
    base_ms: float
    candidate_ms: float

    @property
    def ms(self) -> float:
        """What the candidate takes longer, ms."""
        return self.candidate_ms - self.base_ms


@dataclass(frozen=True, slots=True)
class Grown(_Changed):
    """Operators of one type: how many there are on each side, and what they take together in an inference, ms."""

    type: str
    base: int
    candidate: int
    base_ms: float
    candidate_ms: float


@dataclass(frozen=True, slots=True)
class Same(_Changed):
    """An operator that has the same name on both sides, and on each only once: its type and its time there, ms."""

    name: str
    base: str
    candidate: str
    base_ms: float
    candidate_ms: float


@dataclass(frozen=True, slots=True)
class Difference:
    """What two sides execute; `types` and `names` with the largest change of time first, whichever way it goes."""

    whole: Grown
    types: tuple[Grown, ...]
    names: tuple[Same, ...]

    def share(self, ms: float) -> float | None:
        """A change of time as a share of the whole one; changes that go the other way are negative.

        None where the types' changes cancel out by more than half, as noise does: the whole is then no measure of them.
        """
        every = sum(abs(one.ms) for one in self.types)
        return ms / self.whole.ms if 0 < every <= 2 * abs(self.whole.ms) else None


def operator_counts(profile: Sequence[Operator]) -> dict[str, int]:
    """How many operators of each type there are, by the type's name in order."""
    return dict(sorted(Counter(one.type for one in profile).items()))


def difference(base: Sequence[Operator], candidate: Sequence[Operator]) -> Difference:
    """Two profiles held against each other."""
    counts = operator_counts(base), operator_counts(candidate)
    times = _times(base), _times(candidate)
    types = [
        Grown(kind, counts[0].get(kind, 0), counts[1].get(kind, 0), times[0][kind], times[1][kind])
        for kind in counts[0] | counts[1]
    ]
    here, there = _named(base), _named(candidate)
    names = [
        Same(name, here[name].type, there[name].type, here[name].ms, there[name].ms) for name in here if name in there
    ]
    return Difference(
        Grown("", len(base), len(candidate), sum(times[0].values()), sum(times[1].values())),
        tuple(sorted(types, key=_change)),
        tuple(sorted(names, key=_change)),
    )


def facts(sides: Mapping[str, Sequence[Operator]], why: str = "") -> dict[str, Any]:
    """The difference of two sides, base first, ready for JSON, times in ms; without sides, `why` there are none."""
    if not sides:
        return {"why": why}
    found = difference(*sides.values())
    return {
        "base": found.whole.base,
        "candidate": found.whole.candidate,
        "base_ms": found.whole.base_ms,
        "candidate_ms": found.whole.candidate_ms,
        "ms": found.whole.ms,
        "types": [asdict(one) | {"ms": one.ms, "share": found.share(one.ms)} for one in found.types],
        "names": [asdict(one) | {"ms": one.ms, "share": found.share(one.ms)} for one in found.names[:NAMES]],
    }


def _change(one: Grown | Same) -> float:
    return -abs(one.ms)


def _times(profile: Sequence[Operator]) -> dict[str, float]:
    times: dict[str, float] = defaultdict(float)
    for one in profile:
        times[one.type] += one.ms
    return times


def _named(profile: Sequence[Operator]) -> dict[str, Operator]:
    """Operators by name, without those whose name is not theirs alone."""
    counts = Counter(one.name for one in profile)
    return {one.name: one for one in profile if counts[one.name] == 1}
