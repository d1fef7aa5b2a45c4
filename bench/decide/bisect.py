"""Where between two states something moved: the search alone, whatever a look at a state takes.

A look has four answers.  What stays undecided or cannot be tested is passed by, and what is left open by that is told:
an answer is never narrower than the looks that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Outcome(StrEnum):
    """What a look says of a state between the good and the bad one."""

    SAME = "same"
    MOVED = "moved"
    UNDECIDED = "undecided"
    UNTESTABLE = "untestable"


@dataclass(frozen=True, slots=True)
class Span:
    """Between which states of a row something moved, by place: `low` is as the first one is, `high` has moved.

    `passed` are the places between the two, which no look could tell.
    """

    low: int
    high: int
    passed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Smallest(Generic[Item]):
    """A set of items that moves something and loses that with each of them.

    Of those in `doubtful` that is not sure: what is left without them could not be told.
    """

    items: tuple[Item, ...]
    doubtful: tuple[Item, ...]


def between(number: int, look: Callable[[int], Outcome]) -> Span:
    """Find the step in a row of so many states, of which the first is as it was and the last has moved.

    Each look halves what is open: of n states between the two ends it takes log2(n + 1), rounded up.  That there is one
    step is supposed, as in every bisection; of several it finds one.  A state that cannot be told is passed by, and the
    one next to it asked, as git bisect does with what it is told to skip.  Raises ValueError for fewer than two states.
    """
    if number < 2:
        raise ValueError(f"a row has two ends, not {number} states")
    low, high, passed = 0, number - 1, set[int]()
    while waiting := [place for place in range(low + 1, high) if place not in passed]:
        place = min(waiting, key=lambda one: abs(2 * one - low - high))
        outcome = look(place)
        if outcome is Outcome.SAME:
            low = place
        elif outcome is Outcome.MOVED:
            high = place
        else:
            passed.add(place)
    return Span(low, high, tuple(sorted(place for place in passed if low < place < high)))


def smallest(items: Sequence[Item], look: Callable[[frozenset[Item]], Outcome]) -> Smallest[Item]:
    """Find a smallest set among items that together have moved something; without any of them it is as it was.

    Delta debugging (ddmin of Zeller and Hildebrandt 2002): halves, then finer parts and what is left without them, as
    long as one of these moves it alone.  For a single cause among n that takes 2 log2(n) looks at most; every set is
    looked at once.  The result is smallest in the sense that none of its items can be left out.  Raises ValueError
    without items.
    """
    if not items:
        raise ValueError("no items to find a cause among")
    known: dict[frozenset[Item], Outcome] = {frozenset(): Outcome.SAME, frozenset(items): Outcome.MOVED}

    def told(some: Sequence[Item]) -> Outcome:
        key = frozenset(some)
        if key not in known:
            known[key] = look(key)
        return known[key]

    found, parts = list(items), 2
    while len(found) > 1:
        chunks = _split(found, parts)
        rests = [_without(found, chunk) for chunk in chunks] if parts > 2 else []
        smaller = next((some for some in (*chunks, *rests) if told(some) is Outcome.MOVED), None)
        if smaller is not None:
            parts = 2 if smaller in chunks else max(parts - 1, 2)
            found = smaller
        elif parts == len(found):
            break
        else:
            parts = min(2 * parts, len(found))
    doubtful = tuple(item for item in found if told(_without(found, [item])) is not Outcome.SAME)
    return Smallest(tuple(found), doubtful)


def _split(items: Sequence[Item], parts: int) -> list[list[Item]]:
    cuts = [len(items) * part // parts for part in range(parts + 1)]
    return [list(items[start:end]) for start, end in pairwise(cuts)]


def _without(items: Sequence[Item], some: Sequence[Item]) -> list[Item]:
    return [item for item in items if item not in some]
