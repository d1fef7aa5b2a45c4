"""Which measured options meet a deployer's limits, which of them is fastest, and why each other one is not it.

Pure rules over candidates of one run and one scope, or of all models and sizes at one place (`candidates.py` takes them
from a run): only what was timed together may be ranked against each other.  Site, report and command line all ask here;
the panel of the site (`reports/templates/recommend.js`) follows the same rules for the limits that its reader sets, and
a test holds the two together.  A limit is met when the worse end of a figure's interval meets it, and possibly met when
only the estimate does; that of accuracy is always there, and its worse end may reach twice as far, since some hundred
images know a difference no better.  Who is faster than whom is no matter of these intervals, which hold PyTorch's error
too: any two are compared directly, by the rounds that both took part in (`bench/stats/contrast.py`).  Those that tie
with the fastest are put in order by accuracy, then by size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from bench.reasons import UsageError
from bench.stats import Interval
from bench.stats.contrast import Contrasts, ratio


@dataclass(frozen=True)
class Quantity:
    """Something a limit can be put on.  `option` is its command-line option, `digits` the decimals it is held to.

    `usual` is the limit where none is given; the worse end of an interval may be `slack` times the limit.
    """

    id: str
    side: Literal["at_most", "at_least"]
    option: str
    unit: str
    digits: int
    most: float | None = None
    usual: float | None = None
    slack: float = 1.0


QUANTITIES: Mapping[str, Quantity] = {
    quantity.id: quantity
    for quantity in (
        Quantity("time", "at_most", "--max-latency-ratio", "", 3),
        Quantity("latency", "at_most", "--max-latency-ms", "ms", 2),
        Quantity("throughput", "at_least", "--min-fps", "", 1),
        Quantity("map", "at_least", "--min-map", "", 4, 1.0),
        Quantity("loss", "at_most", "--max-map-loss", "", 4, 1.0, usual=0.01, slack=2.0),
        Quantity("size", "at_most", "--max-size", "MB", 2),
        Quantity("memory", "at_most", "--max-memory", "MB", 2),
        Quantity("packages", "at_most", "--max-env", "MB", 2),
    )
}
NEAR = 1.1
"""Two times tie where they cannot be told apart and lie no further from each other than this, by their estimates: what
few launches cannot tell apart may be far apart all the same."""
FRONT = ("time", "loss", "size")
"""What the Pareto front is drawn over; the loss stands for accuracy, because its interval is paired."""


@dataclass(frozen=True)
class Figure:
    """A figure, rounded as it is shown, with its 95 % interval.

    The ends equal the value where it is exact, and are None where it should have an interval and has none.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Candidate:
    """A measured and timed cell.  `figures` holds one per quantity, None where it was not measured.

    `time` is its time over that of PyTorch FP32, per image: 0.5 is twice as fast.  `latency` is the milliseconds per
    image of the window it was timed in, `throughput` how many images a second that makes.
    """

    cell_id: str
    name: str
    option: str
    precision: str
    in_guide: bool
    figures: Mapping[str, Figure | None]
    reproduce: str = ""
    behind_best: Figure | None = None
    """Its loss against the most accurate PyTorch FP32, where there are those of several models or sizes."""

    @property
    def time(self) -> Figure:
        """Its time; a candidate always has one."""
        figure = self.figures["time"]
        assert figure is not None, "a cell without a time is no candidate"
        return figure

    @property
    def deficit(self) -> Figure | None:
        """What it is behind in accuracy, comparable among all that are chosen from."""
        return self.figures["loss"] if self.behind_best is None else self.behind_best

    def compared(self, name: str) -> Figure | None:
        """A figure of `FRONT` as candidates are compared by it."""
        return self.deficit if name == "loss" else self.figures[name]


class Outcome(StrEnum):
    """How a figure stands to its limit."""

    MET = "met"
    POSSIBLY = "possibly"
    MISSED = "missed"
    UNKNOWN = "unknown"


class Standing(StrEnum):
    """How a candidate stands to all limits."""

    MEETS = "meets"
    POSSIBLY = "possibly"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Choice:
    """A candidate with its place.

    `held` says how each limited figure stands.  `rank` is one more than the number of surely faster ones that meet
    every limit; `ties` are those whose time is `NEAR` and cannot be told from its own.  `beaten_by` is the first that
    is no worse in any figure of `FRONT` and surely better in those of `better_in`; without one, the choice is on the
    Pareto front.  No worse is: not slower by the estimate of their ratio, and otherwise not at the worse end.  `behind`
    is the time over that of the best choice, where the two are told apart.
    """

    candidate: Candidate
    standing: Standing
    held: Mapping[str, Outcome]
    rank: int | None = None
    ties: tuple[str, ...] = ()
    beaten_by: str = ""
    better_in: tuple[str, ...] = ()
    behind: Interval | None = None

    @property
    def on_front(self) -> bool:
        """True when it meets every limit and no other that does is as good in everything and better in something."""
        return self.standing is Standing.MEETS and not self.beaten_by


@dataclass(frozen=True)
class Excluding:
    """The limit that leaves out most candidates, how many, and the candidate that comes nearest to it."""

    quantity: str
    count: int
    nearest: str


@dataclass(frozen=True)
class Recommendation:
    """Everything there is to say under some limits, best first."""

    limits: Mapping[str, float]
    choices: tuple[Choice, ...]
    excluding: Excluding | None

    def of(self, standing: Standing) -> tuple[Choice, ...]:
        """The choices of that standing, in their order."""
        return tuple(choice for choice in self.choices if choice.standing is standing)


def limits(**values: float | None) -> dict[str, float]:
    """Limits by quantity; one that is not given is the usual one, or none.

    Raises UsageError naming the option for a value that cannot be meant.
    """
    found: dict[str, float] = {}
    for name, quantity in QUANTITIES.items():
        given = values.get(name)
        value = quantity.usual if given is None else given
        if value is None:
            continue
        most = quantity.most
        if not math.isfinite(value) or value < 0 or (most is not None and value > most):
            allowed = "a number from 0 up" if most is None else f"a number from 0 to {most:g}"
            raise UsageError(f"{quantity.option} {value}: needs {allowed}")
        found[name] = value
    return found


def recommend(candidates: Sequence[Candidate], wanted: Mapping[str, float], pairs: Contrasts) -> Recommendation:
    """Rank candidates of one scope under limits by quantity; `pairs` says how their times compare.

    Order: those that meet every limit, those that possibly do, then the dropped ones.  The first begin with those that
    tie with the fastest, by their `deficit` and then their size, and go on by rank and the estimate of their time; the
    second are by that alone, the dropped in the order given.
    """
    wanted = {name: wanted[name] for name in QUANTITIES if name in wanted}
    held = {one.cell_id: {name: _hold(one.figures[name], name, wanted[name]) for name in wanted} for one in candidates}
    standings = {one.cell_id: _standing(one, held[one.cell_id]) for one in candidates}
    groups = {standing: [one for one in candidates if standings[one.cell_id] is standing] for standing in Standing}
    for standing in (Standing.MEETS, Standing.POSSIBLY):
        groups[standing].sort(key=lambda one: one.time.value)
    meets = groups[Standing.MEETS]
    ranked = [_ranked(one, meets, held[one.cell_id], pairs) for one in meets]
    choices = sorted(ranked, key=lambda choice: _place(choice, ranked[0]))
    choices = [_behind(choice, choices[0], pairs) for choice in choices]
    for standing in (Standing.POSSIBLY, Standing.DROPPED):
        choices += [Choice(one, standing, held[one.cell_id]) for one in groups[standing]]
    return Recommendation(wanted, tuple(choices), _most_excluding(candidates, held))


def surely_better(one: Figure, other: Figure) -> bool:
    """True when the whole interval of one lies below that of the other; less is better in everything on the front."""
    return one.high is not None and other.low is not None and one.high < other.low


def near(one: Candidate, other: Candidate) -> bool:
    """Whether the estimates of two times lie so close that nobody would choose by their difference."""
    return max(one.time.value, other.time.value) <= NEAR * min(one.time.value, other.time.value)


def _place(choice: Choice, fastest: Choice) -> tuple[float, ...]:
    """What a choice that meets every limit is sorted by; an unknown figure comes last."""
    time = choice.candidate.time.value
    if choice is not fastest and fastest.candidate.cell_id not in choice.ties:
        return (1, choice.rank or 0, time)
    figures = (choice.candidate.compared(name) for name in ("loss", "size"))
    return (0, *(math.inf if figure is None else figure.value for figure in figures), time)


def _ranked(one: Candidate, among: Sequence[Candidate], held: Mapping[str, Outcome], pairs: Contrasts) -> Choice:
    others = [other for other in among if other is not one]
    faster = [other for other in others if (other.cell_id, one.cell_id) in pairs.sure]
    apart = {*pairs.sure, *((b, a) for a, b in pairs.sure)}
    ties = [other for other in others if (one.cell_id, other.cell_id) not in apart and near(one, other)]
    beaten_by, better_in = next(_beating(one, others, pairs), ("", ()))
    return Choice(
        one, Standing.MEETS, held, len(faster) + 1, tuple(other.cell_id for other in ties), beaten_by, better_in
    )


def _behind(choice: Choice, best: Choice, pairs: Contrasts) -> Choice:
    names = best.candidate.cell_id, choice.candidate.cell_id
    found = pairs.between(*reversed(names)) if names in pairs.sure else None
    return choice if found is None else replace(choice, behind=ratio(found))


def _beating(one: Candidate, others: Sequence[Candidate], pairs: Contrasts) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Those that beat it, and in which figures they are surely better."""
    for other in others:
        time = pairs.between(other.cell_id, one.cell_id)
        figures = [(name, other.compared(name), one.compared(name)) for name in FRONT if name != "time"]
        if time is None or time.value > 0 or not all(_no_worse(a, b) for _, a, b in figures):
            continue
        better = {name for name, a, b in figures if a and b and surely_better(a, b)}
        if (other.cell_id, one.cell_id) in pairs.sure:
            better.add("time")
        if better:
            yield other.cell_id, tuple(name for name in FRONT if name in better)


def _no_worse(one: Figure | None, other: Figure | None) -> bool:
    """True when the worse end of one is no worse than that of the other, both known."""
    if one is None or other is None or one.high is None or other.high is None:
        return False
    return one.high <= other.high


def _hold(figure: Figure | None, name: str, limit: float) -> Outcome:
    if figure is None:
        return Outcome.UNKNOWN
    quantity = QUANTITIES[name]
    at_most, slack = quantity.side == "at_most", quantity.slack * limit
    worse = figure.high if at_most else figure.low
    if not (figure.value <= limit if at_most else figure.value >= limit):
        return Outcome.MISSED
    if worse is None or not (worse <= slack if at_most else worse >= slack):
        return Outcome.POSSIBLY
    return Outcome.MET


def _standing(candidate: Candidate, held: Mapping[str, Outcome]) -> Standing:
    outcomes = set(held.values())
    if outcomes & {Outcome.MISSED, Outcome.UNKNOWN}:
        return Standing.DROPPED
    # Without an interval of its time a candidate cannot be ranked, so that nothing sure can be said of it.
    return Standing.POSSIBLY if Outcome.POSSIBLY in outcomes or candidate.time.high is None else Standing.MEETS


def _most_excluding(candidates: Sequence[Candidate], held: Mapping[str, Mapping[str, Outcome]]) -> Excluding | None:
    """The first of the limits that drop most, with the candidate whose figure comes nearest to it."""
    best: Excluding | None = None
    for name, quantity in QUANTITIES.items():
        failing = {Outcome.MISSED, Outcome.UNKNOWN}
        count = sum(held[one.cell_id].get(name) in failing for one in candidates)
        if count > (best.count if best else 0):
            sign = 1 if quantity.side == "at_most" else -1
            known = [(sign * figure.value, one.cell_id) for one in candidates if (figure := one.figures[name])]
            best = Excluding(name, count, min(known, key=lambda pair: pair[0])[1] if known else "")
    return best
