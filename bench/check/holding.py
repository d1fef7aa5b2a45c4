"""The changed cells of a plan held against their base: a sweep of both sides without latency, then pairs for times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import engine
from bench.check.plan import REVISION, Plan, State
from bench.decide import gate
from bench.decide.gate import CONTROL, Line, Looks, Verdict
from bench.decide.operators import facts as told_of
from bench.grid import machine, tolerances
from bench.grid.matrix import Cell
from bench.grid.request import Request
from bench.measure import operators
from bench.measure.contest import Contest, Contests
from bench.measure.contestants import contest, make_side
from bench.measure.operators import Profiles
from bench.measure.pairs import BASE, CANDIDATE, LATENCY, Side, Turns
from bench.measure.quiet import machine_lock
from bench.progress import Reporter
from bench.reasons import CellProblem
from bench.report import check as report


@dataclass
class Found:
    """What a check came to: its lines, the contests that were held, and the control beside them.

    `operators` are those that both sides of a cell execute.
    `candidate` is the folder of the candidate's tables, where it was measured for this check.
    """

    against: str
    lines: list[Line] = field(default_factory=list)
    contests: list[Contest] = field(default_factory=list)
    control: Contest | None = None
    operators: dict[str, Profiles] = field(default_factory=dict)
    seconds: float = 0.0
    candidate: Path | None = None

    @property
    def regressed(self) -> bool:
        """Whether the check fails."""
        return bool(gate.regressed(self.lines))

    @property
    def steady(self) -> bool:
        """Whether the control, which is the base against itself, did not change."""
        return self.control is None or gate.steady(self.control)

    def pairs(self) -> dict[str, dict[str, list[Turns]]]:
        """Every pair that was taken, by contest and stage."""
        every = self.contests if self.control is None else [*self.contests, self.control]
        return {one.name: {"screen": one.screened, "confirm": one.confirming} for one in every}


def check(
    wanted: Plan, directory: Path, minutes: float, *, huge: bool, started: float, progress: Callable[[], Reporter]
) -> Found:
    """Measure what a plan says, and hold it against its base.

    Both sides' sweeps go into `directory`, and each step is shown by a `progress` of its own.  `minutes` are counted
    from `started` (monotonic): no pair of guests begins that would not end within them; sweeps are finished, since
    without them there is nothing to compare.
    Raises UsageError and engine.BenchDefect as a run does, KeyboardInterrupt where the user stops one.
    """
    found = Found(wanted.base.label)
    found.lines += [gate.unchanged(name) for name in wanted.same]
    found.lines += [gate.vanished(name) for name in wanted.vanished]
    found.lines += [Line(name, gate.STATUS, Verdict.INCOMPARABLE, why=why) for name, why in wanted.incomparable.items()]
    names = list(wanted.parts)
    if names:
        base, candidate = (_tables(state, names, directory, progress()) for state in (wanted.base, wanted.candidate))
        found.candidate = candidate
        allowed = tolerances.load(wanted.candidate.request.matrices)
        before, now = gate.tables(base, names), gate.tables(candidate, names)
        rungs = {name: gate.ladder(name, before, now, allowed) for name in names}
        found.lines += [line for lines in rungs.values() for line in lines]
        margins = {name: allowed[name].margin for name in tolerances.TIMED}
        standing = [name for name in names if gate.stands(rungs[name]) and wanted.candidate.times(name)]
        with progress() as reporter:
            _set_up(found, wanted, standing, margins, directory / "guests.log", huge=huge, progress=reporter)
            _hold(found, started + 60 * minutes - time.monotonic(), reporter)
    found.seconds = time.monotonic() - started
    return found


def facts(found: Found) -> dict[str, Any]:
    """A check, ready for JSON, for Markdown and for the report."""
    control = found.control
    notes = [f"{found.seconds / 60:.1f} minutes."]
    if control is not None and control.screened:
        ratio = control.screen().found.ratio()
        word = "steady" if found.steady else "not steady"
        notes.append(f"{CONTROL}: {ratio.value:.4f} from {len(control.screened)} pairs: the machine was {word}.")
    noise = {one.name: asdict(one.noise()) for one in found.contests if len(one.screened) > 1}
    changed = {line.cell for line in found.lines if _asks_why(line)}
    told = {cell: told_of(one.sides, one.why) for cell, one in found.operators.items() if cell in changed}
    return report.facts_of(
        found.lines,
        found.against,
        machine=machine.machine_id(),
        notes=notes,
        seconds=found.seconds,
        noise=noise,
        operators=told,
    )


def shown(progress: Reporter) -> Callable[[Contest, str, int], None]:
    """What shows the pairs of contests as they are taken."""
    return lambda one, stage, taken: progress.phase(one.name, f"{stage}: pair {taken + 1}")


def _tables(state: State, names: Sequence[str], directory: Path, progress: Reporter) -> Path:
    """Folder of a state's tables of these cells: those that it has, or those of a sweep without latency made now."""
    if state.run is not None:
        return state.run
    cells = [cell.id for name in names if (cell := state.cell(name)) is not None]
    given = {"results": str(directory), "run-id": BASE if state.label.startswith(REVISION) else CANDIDATE}
    keyword = f"not test_latency and ({' or '.join(f'[{name}]' for name in cells)})"
    swept = engine.sweep(Request(state.request.given() | given), progress, keyword)
    if swept.interrupted:
        raise KeyboardInterrupt
    return swept.directory


def _set_up(
    found: Found,
    wanted: Plan,
    names: Sequence[str],
    margins: Mapping[str, float],
    log: Path,
    *,
    huge: bool,
    progress: Reporter,
) -> None:
    """Make the contests of these cells, and a control: the base of one of them against itself.

    Of the one with the smallest environment, which is likely the quickest to start.
    """
    outfit = wanted.candidate.outfit
    bases: dict[str, Side] = {}
    for name in names:
        try:
            base, candidate = _side(wanted.base, name, huge=huge), _side(wanted.candidate, name, huge=huge)
        except CellProblem as problem:
            found.lines.append(Line(name, LATENCY, Verdict.INCOMPARABLE, why=f"cannot be set up: {problem}"))
            continue
        bases[name] = base
        found.contests.append(contest(name, outfit, _cell(wanted.candidate, name), (base, candidate), margins, log))
        progress.message(f"{name}: {', '.join(wanted.parts[name])} changed")
    if bases:
        name, base = min(bases.items(), key=lambda item: item[1].env.bytes or math.inf)
        found.control = contest(CONTROL, outfit, _cell(wanted.candidate, name), (base, base), margins, log)


def _cell(state: State, name: str) -> Cell:
    cell = state.cell(name)
    assert cell is not None, "it ran on both sides"
    return cell


def _side(state: State, name: str, *, huge: bool) -> Side:
    return make_side(state.label, state.outfit, _cell(state, name), huge=huge)


def _hold(found: Found, seconds: float, progress: Reporter) -> None:
    """Take the pairs of all contests within so many seconds, and add their lines."""
    if found.control is None:
        return
    end = time.monotonic() + seconds
    with machine_lock(progress):
        for one in found.contests:
            if time.monotonic() < end:
                _list_operators(found, one, progress)
        with progress.timed("", f"times of {len(found.contests)} cells beside their base's"):
            Contests([*found.contests, found.control], max(end - time.monotonic(), 0.0), shown(progress)).run()
    looks = [_looks(one, metric) for one in found.contests if one.screened for metric in one.margins]
    found.lines += gate.timed(looks, steady=found.steady)
    found.lines += [_untimed(one) for one in found.contests if one.problem is not None or not one.screened]
    slower = {line.cell for line in found.lines if line.metric == LATENCY and line.verdict is Verdict.WORSE}
    for one in found.contests:
        if one.name in slower and one.name not in found.operators:
            _list_operators(found, one, progress)
    found.lines += [
        gate.executed(name, told.sides[BASE], told.sides[CANDIDATE])
        for name, told in found.operators.items()
        if told.sides
    ]


def _list_operators(found: Found, one: Contest, progress: Reporter) -> None:
    assert one.setting is not None, "its pairs are of guests"
    with progress.timed(one.name, "listing operators"):
        found.operators[one.name] = operators.profile(one.setting.sides, one.setting.conditions)


def _asks_why(line: Line) -> bool:
    """Whether a reader would ask which operators a cell executes."""
    slower = line.metric == LATENCY and line.verdict is Verdict.WORSE
    return slower or (line.metric == gate.OPERATORS and line.verdict is not Verdict.SAME)


def _looks(one: Contest, metric: str) -> Looks:
    base, candidate = one.typical(metric)
    return Looks(one.name, metric, base, candidate, one.screen(metric), one.confirmation(metric), one.pooled(metric))


def _untimed(one: Contest) -> Line:
    """The line of a contest that failed, or that there was no time for."""
    if one.problem is None:
        return Line(one.name, LATENCY, Verdict.UNDECIDED, why="no time was left; give more --minutes")
    verdict = Verdict.WORSE if one.problem.side == CANDIDATE else Verdict.INCOMPARABLE
    return Line(one.name, LATENCY, verdict, why=f"the {one.problem.side}'s guest failed: {one.problem}")
