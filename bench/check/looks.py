"""Looks of a bisection: a state held against the good one, by pairs of guests or by sweeps; each taken once and kept.

Times are decided as the gate decides them (`bench.stats.change`), with other margins: between two ends that differ, a
state has moved when it lies beyond half of what they differ by.  That is far from either end, so that few pairs tell
it, and the small steps that every release makes by its layout do not lead astray.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from bench import engine
from bench.check.holding import shown
from bench.check.states import State
from bench.decide import gate
from bench.decide.bisect import Outcome
from bench.decide.gate import Verdict
from bench.grid.matrix import Cell
from bench.grid.request import Request
from bench.grid.tolerances import SCORE, Tolerance
from bench.measure.contest import Contest, Contests
from bench.measure.facts import summary
from bench.measure.pairs import SIDES, Side
from bench.measure.quiet import machine_lock
from bench.progress import Reporter
from bench.reasons import CellProblem, Reason
from bench.stats import Interval
from bench.stats.allocation import PAIRS_MIN
from bench.stats.change import Change, Decided, decide
from bench.store import looks as kept
from bench.store import pairs as stored


class Direction(StrEnum):
    """Which way something moved."""

    WORSE = "worse"
    BETTER = "better"
    EITHER = "either"


@dataclass(frozen=True)
class Compared:
    """What a comparison of two states came to.

    `change` is candidate over base, of scores candidate minus base; `again` the command that asks for the same.
    """

    verdict: Verdict
    change: Interval | None = None
    pairs: int = 0
    why: str = ""
    again: str = ""


@dataclass(frozen=True)
class Look:
    """A look at a state.  `change` is the state over the good one, of scores the difference; `minutes` were allowed."""

    label: str
    outcome: Outcome
    change: Interval | None = None
    pairs: int = 0
    seconds: float = 0.0
    margin: float | None = None
    minutes: float = 0.0
    why: str = ""
    again: str = ""
    direction: Direction = Direction.EITHER

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Look:
        """A look as it was kept.  Raises KeyError, TypeError and ValueError for what is none."""
        own = {name: told[name] for name in cls.__dataclass_fields__}
        change = None if own["change"] is None else Interval(**own["change"])
        return cls(
            **own | {"outcome": Outcome(own["outcome"]), "direction": Direction(own["direction"]), "change": change}
        )


class Method(Protocol):
    """A way to compare two states of a cell."""

    def compare(self, base: State, candidate: State, margin: float, place: Path, *, either: bool) -> Compared:
        """Hold a candidate against a base with a margin for what is worse; what is measured goes to `place`.

        The verdict is *same* where the candidate is not worse; with `either` where it is not better either.
        """


class Timed:
    """Times and memory, by pairs of fresh guests of both states."""

    def __init__(
        self,
        cell_id: str,
        side: Callable[[State], Side],
        contest: Callable[[tuple[Side, Side], float, Path], Contest],
        again: Callable[[State, State, float, int | None], str],
        minutes: float,
        progress: Reporter,
        *,
        huge: bool,
    ) -> None:
        """`side` makes a state's, `contest` one of two sides with a margin and a log.

        `again` says the command of base, candidate, margin and pairs.  A comparison's pairs take `minutes` at most.
        """
        self._cell_id = cell_id
        self._side = side
        self._contest = contest
        self._again = again
        self._minutes = minutes
        self._progress = progress
        self._huge = huge

    def compare(self, base: State, candidate: State, margin: float, place: Path, *, either: bool) -> Compared:
        """As few pairs as decide anything; where they leave it open, fresh ones for what is left of the minutes.

        A state that cannot be set up, or whose guest fails, is incomparable.
        """
        try:
            sides = self._side(base), self._side(candidate)
        except CellProblem as problem:
            return Compared(Verdict.INCOMPARABLE, why=f"cannot be set up: {problem}")
        taken, seconds = 0, 60 * self._minutes
        for number, pairs in enumerate((PAIRS_MIN, None), 1):
            directory = place / str(number)
            directory.mkdir(parents=True)
            one = self._contest(sides, margin, directory / "guests.log")
            with machine_lock(self._progress):
                Contests([one], seconds, shown(self._progress)).run(pairs)
            taken += len(one.screened) + len(one.confirming)
            again = self._again(base, candidate, margin, pairs)
            if one.problem is not None:
                why = f"the guest of {sides[SIDES.index(one.problem.side)].label} failed: {one.problem}"
                return Compared(Verdict.INCOMPARABLE, pairs=taken, why=why, again=again)
            self._store(directory, one, sides, again)
            verdict = _verdict(one, either=either)
            seconds -= one.seconds
            if verdict is not Verdict.UNDECIDED or seconds < PAIRS_MIN * one.cost:
                break
        last = one.confirmation() or one.screen()
        return Compared(verdict, last.found.ratio(), taken, _open(last) if verdict is Verdict.UNDECIDED else "", again)

    def _store(self, directory: Path, one: Contest, sides: tuple[Side, Side], again: str) -> None:
        facts = summary(self._cell_id, dict(zip(SIDES, sides, strict=True)), one, huge=self._huge) | {"again": again}
        stored.write(directory, {self._cell_id: {"screen": one.screened, "confirm": one.confirming}}, facts)


def _open(last: Decided) -> str:
    """What pairs that left something open could have seen."""
    if math.isnan(last.visible):
        return "there was time for a single pair; give more --minutes"
    return f"could have seen {100 * last.visible:.1f} %"


def _verdict(one: Contest, *, either: bool) -> Verdict:
    change = one.change()
    if change is Change.OK and either:
        logs = [-pair.log_ratio(one.metric) for pair in (*one.screened, *one.confirming)]
        change = decide(logs, one.margins[one.metric]).change
        return Verdict.SAME if change is Change.OK else Verdict.UNDECIDED
    return gate.OF_CHANGE[change]


class Swept:
    """Status, sizes and scores, by a sweep of each state without latency; one look is enough."""

    def __init__(
        self,
        request: Request,
        cell: Cell,
        metric: str,
        allowed: Mapping[str, Tolerance],
        folder: Path,
        progress: Callable[[], Reporter],
    ) -> None:
        """The sweeps' tables go into `folder`, where those of a state that was swept before are found again.

        Each sweep is shown by a `progress` of its own.
        """
        self._request = request
        self._cell = cell
        self._metric = metric
        self._allowed = allowed
        self._folder = folder
        self._progress = progress

    def compare(self, base: State, candidate: State, margin: float, place: Path, *, either: bool) -> Compared:
        """As the gate's ladder has it; `place` is not used, for a sweep is of one state and serves several looks."""
        del place
        name, again = self._cell.cell_id, self._request.command("run", matrices=candidate.matrices)
        before, now = (gate.tables(self._run(state), [name]) for state in (base, candidate))
        for state, tables in ((base, before), (candidate, now)):
            row = tables.cells.get(name)
            if row is not None and row.reason_code == Reason.ENVIRONMENT_FAILED:
                return Compared(Verdict.INCOMPARABLE, why=f"{state.label} cannot be set up: {row.reason}", again=again)
        allowed = dict(self._allowed)
        if self._metric in allowed:
            allowed[self._metric] = allowed[self._metric].model_copy(update={"margin": margin})
        lines = gate.ladder(name, before, now, allowed)
        line = next((line for line in lines if line.metric == self._metric), None)
        if line is None:
            why = f"{lines[-1].metric}: {lines[-1].why or 'it has no such figure'}"
            return Compared(Verdict.INCOMPARABLE, why=why, again=again)
        verdict = line.verdict
        high = None if line.change is None else line.change.high
        if either and verdict is Verdict.SAME and self._metric == SCORE and high is not None and high > margin:
            verdict = Verdict.UNDECIDED
        return Compared(verdict, line.change, why=line.why, again=again)

    def _run(self, state: State) -> Path:
        """Folder of the tables of a state, of a sweep made now where there is none."""
        note = self._folder / f"{state.key}.json"
        if not note.is_file():
            run = f"{state.key[:8]}-{secrets.token_hex(2)}"
            given = {"matrices": str(state.matrices), "results": str(self._folder), "run-id": run}
            request = Request(self._request.given() | given)
            swept = engine.sweep(request, self._progress(), f"not test_latency and [{self._cell.id}]")
            if swept.interrupted:
                raise KeyboardInterrupt
            stored.write_facts(note, {"run": run})
        return self._folder / str(json.loads(note.read_text(encoding="utf-8"))["run"])


class Looks:
    """Looks at states between a good and a bad one."""

    def __init__(self, method: Method, metric: str, good: State, bad: State, minutes: float, folder: Path) -> None:
        """Those that are kept in `folder` are known.  Raises StoreError where one cannot be read."""
        self.good = good
        self.bad = bad
        self.folder = folder
        self.margin = math.nan
        """Beyond which a state between the ends has moved; known once these differ."""
        self.direction = Direction.EITHER
        self.steps: list[tuple[Look, bool]] = []
        """Every look in the order it was asked for, and whether it was known before."""
        self._method = method
        self._metric = metric
        self._minutes = minutes
        self._known = _known(folder)
        self._noted: set[str] = set()
        self._ends: Look | None = None

    def ends(self, allowed: float, direction: Direction, margin: float | None = None) -> Look:
        """Hold the bad state against the good one, with the margin `allowed` in ordinary life.

        Where they differ, states between them are judged in the direction found, by `margin`, else by half of that.
        """
        look = self._look(self.bad, allowed, direction)
        if look.outcome is Outcome.MOVED:
            self._ends, self.direction = look, look.direction
            self.margin = margin if margin is not None else max(allowed, round(self._half(look.change), 4))
        return look

    def at(self, state: State) -> Outcome:
        """Look at a state between the ends, which must differ."""
        assert self._ends is not None, "the ends differ"
        for end, outcome in ((self.good, Outcome.SAME), (self.bad, Outcome.MOVED)):
            if state.key == end.key:
                return self._note(Look(state.label, outcome, why=f"its packages are those of {end.label}"), known=False)
        return self._look(state, self.margin, self.direction).outcome

    def untestable(self, label: str, why: str) -> Outcome:
        """Note a state that cannot be made; it is not kept, since another time it may."""
        return self._note(Look(label, Outcome.UNTESTABLE, why=why), known=False)

    def _note(self, look: Look, *, known: bool) -> Outcome:
        self.steps.append((look, known))
        return look.outcome

    def _half(self, change: Interval | None) -> float:
        """Half of what the ends differ by, as a margin: of ratios their square root, so that both halves are equal."""
        if change is None:  # a status
            return 0.0
        if self._metric == SCORE:
            return abs(change.value) / 2
        return math.expm1(abs(math.log(change.value)) / 2)

    def _look(self, state: State, margin: float, direction: Direction) -> Look:
        # What is looked for is always that the candidate is worse, for which the gate's decision is made.
        better = direction is Direction.BETTER
        base, candidate = (state, self.good) if better else (self.good, state)
        key = _digest(base.key, candidate.key, margin, direction.value)
        look = self._known.get(key)
        if look is not None and (look.outcome is not Outcome.UNDECIDED or look.minutes >= self._minutes):
            if key in self._noted:  # two sets of packages may come to one set of versions
                look = replace(look, pairs=0, seconds=0.0, why=f"its packages are those of {look.label}")
            self._noted.add(key)
            look = replace(look, label=state.label)
            self._note(look, known=True)
            return look
        place = stored.new_folder(self.folder, _slug(state.label))
        started, either = time.monotonic(), direction is Direction.EITHER
        told = self._method.compare(base, candidate, margin, place, either=either)
        found = direction if not either else Direction(told.verdict.value) if told.verdict in _EITHER else direction
        look = Look(
            state.label,
            _outcome(told.verdict, either=either),
            self._turned(told.change) if better else told.change,
            told.pairs,
            round(time.monotonic() - started, 1),
            margin,
            self._minutes,
            told.why,
            told.again,
            found,
        )
        if look.outcome is not Outcome.UNTESTABLE:
            kept.write(place, {"key": key, **asdict(look)})
            self._known[key] = look
            self._noted.add(key)
        self._note(look, known=False)
        return look

    def _turned(self, change: Interval | None) -> Interval | None:
        """A change the other way round."""
        if change is None or change.low is None or change.high is None:
            return change
        if self._metric == SCORE:
            return Interval(-change.value, -change.high, -change.low)
        return Interval(1 / change.value, 1 / change.high, 1 / change.low)


_EITHER = (Verdict.WORSE, Verdict.BETTER)


def _outcome(verdict: Verdict, *, either: bool) -> Outcome:
    if verdict is Verdict.WORSE or (either and verdict is Verdict.BETTER):
        return Outcome.MOVED
    if verdict in (Verdict.SAME, Verdict.BETTER):
        return Outcome.SAME
    return Outcome.UNDECIDED if verdict is Verdict.UNDECIDED else Outcome.UNTESTABLE


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _slug(label: str) -> str:
    """A label as a part of a file's name."""
    return "".join(one if one.isalnum() or one in "=.-_" else "-" for one in label)[:60]


def _known(folder: Path) -> dict[str, Look]:
    """Looks that are kept, by key; of several at one state the last."""
    found = {}
    for path, told in kept.read(folder):
        try:
            found[str(told["key"])] = Look.read(told)
        except (KeyError, TypeError, ValueError) as error:
            raise kept.damaged(path, error) from error
    return found
