"""What a check measures: the cells whose identity is not the base's, and what the minutes can show of them.

What a cell's figures rest on is compared first (`bench.measure.identity`): where all of it is as it was, nothing needs
to be measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.environments import houses
from bench.grid import machine, tolerances
from bench.grid.matrix import Cell
from bench.grid.request import OF_THE_GRID, Grid, Request, expand
from bench.measure.contest import SCREEN_SHARE
from bench.measure.identity import Identity, changed, identity
from bench.measure.outfit import Ingredients, Outfit
from bench.measure.pairs import LATENCY
from bench.measure.prepare import ingredients, of_house
from bench.progress import Reporter
from bench.reasons import UsageError
from bench.stats import change
from bench.stats.allocation import Noise, shares
from bench.store import baselines, pairs
from bench.store.baselines import Baseline
from bench.wall import checkpoint as checkpoints

REVISION = "git:"
TYPICAL = Noise(0.015, 8.0)
"""Of a cell whose pairs were never taken on this machine: what PyTorch's at 320 px on two shared cores are like."""
_NARROWING = {name for name in OF_THE_GRID if name not in ("sweep", "matrices")}


@dataclass(frozen=True)
class State:
    """A state of the bench that cells are measured in.

    `run` is the folder of its tables, where it was measured already, and `identities` are those of its cells.
    """

    label: str
    request: Request
    grid: Grid
    outfit: Outfit
    identities: dict[str, Identity]
    run: Path | None = None

    def cell(self, cell_id: str) -> Cell | None:
        """The cell of that id in this state's grid."""
        return next((cell for cell in self.grid.cells if cell.cell_id == cell_id), None)

    def times(self, cell_id: str) -> bool:
        """Whether latency is taken of a cell."""
        cell = self.cell(cell_id)
        return cell is not None and self.grid.matrix.targets[cell.target].timed


@dataclass(frozen=True)
class Plan:
    """Which cells are measured, and why: `parts` of their identity that differ, by cell id.

    `same` are as they were; `vanished` are the base's alone; `incomparable` says why some cannot be held against it.
    """

    base: State
    candidate: State
    parts: dict[str, list[str]]
    same: list[str]
    vanished: list[str]
    incomparable: dict[str, str]


@dataclass(frozen=True)
class Foreseen:
    """What the minutes would give a cell: pairs, and the smallest slowdown they show 95 times in 100.

    `assumed` is True where nothing is known yet of how much its pairs vary on this machine.
    """

    cell: str
    pairs: int
    visible: float
    assumed: bool


def plan(request: Request, against: str, root: Path, progress: Reporter, run: Path | None = None) -> Plan:
    """What a check would measure.  Nothing is exported or installed but what reads the checkpoint.

    `against` is the name of a baseline of this machine below `root`, or `git:REVISION`.  `run` holds the candidate's
    tables where it was measured already.  Raises UsageError for a baseline or revision that is not there, for another
    model or other data than the base's, and for a run of another state than the present one.
    """
    baseline = None if against.startswith(REVISION) else baselines.load(root, machine.machine_id(), against)
    if baseline is not None and request.text("sweep") is None:
        request = Request(request.given() | {"sweep": baseline.facts["sweep"]})
    grid = expand(request)
    given = ingredients(request, grid, progress)
    candidate = _state("candidate", request, grid, given, run=run)
    if run is not None:
        _require_present(run, candidate)
    base = _base(request, against, baseline, given)
    known, ids = base.identities, [cell.cell_id for cell in candidate.grid.cells]
    both = [name for name in ids if name in known and name in candidate.identities]
    parts = {name: differing for name in both if (differing := changed(known[name], candidate.identities[name]))}
    narrowed = bool(_NARROWING & request.given().keys())
    vanished = [] if narrowed else [name for name in known if name not in ids]
    absent = {name: "its target is not on this machine" for name in ids if name in known and name not in both}
    new = {name: "the base does not have this cell" for name in candidate.identities if name not in known}
    return Plan(base, candidate, parts, [name for name in both if name not in parts], vanished, absent | new)


def foresee(wanted: Plan, seconds: float, checks: Path) -> list[Foreseen]:
    """How `seconds` would be shared out among the cells that a plan times; past checks are in `checks`."""
    margin = tolerances.load(wanted.candidate.request.matrices)[LATENCY].margin
    known = pairs.past_noise(checks)
    noises = {name: known.get(name, TYPICAL) for name in wanted.parts if wanted.candidate.times(name)}
    numbers = shares(noises, seconds * SCREEN_SHARE) if noises else {}
    return [
        Foreseen(name, number, change.foreseen(noises[name].deviation, number, margin), name not in known)
        for name, number in numbers.items()
    ]


def _state(
    label: str,
    request: Request,
    grid: Grid,
    given: Ingredients,
    identities: dict[str, Identity] | None = None,
    run: Path | None = None,
) -> State:
    """A state as its grid makes it; `identities` are those recorded, where it is one of the past."""
    outfit = Outfit(given)
    return State(label, request, grid, outfit, identities or _identities(grid, outfit), run)


def _identities(grid: Grid, outfit: Outfit) -> dict[str, Identity]:
    """Identities of the cells that can run here."""
    here = {name for name, target in grid.matrix.targets.items() if machine.detect(target).found}
    cells = [cell for cell in grid.cells if cell.target in here and not cell.option.lacks]
    return {cell.cell_id: identity(outfit, cell, outfit.artifact_key(cell)) for cell in cells}


def _base(request: Request, against: str, baseline: Baseline | None, given: Ingredients) -> State:
    """The state that a request is held against, made of the ingredients `given` for the present one."""
    if baseline is None:
        matrices = houses.of_revision(against.removeprefix(REVISION), request.cache)
    else:
        baselines.require_comparable(baseline.facts, _same(given))
        matrices = houses.unpack(baseline.house, request.cache)
    then = Request(request.given() | {"matrices": str(matrices)})
    grid = expand(then)
    past = of_house(given, matrices, grid)
    if baseline is None:
        return _state(against, then, grid, past)
    return _state(f"baseline {baseline.name}", then, grid, past, baseline.identities, baseline.run)


def _same(given: Ingredients) -> dict[str, str]:
    """What must be equal on both sides, as a run records it."""
    return {
        **checkpoints.told(given.checkpoints),
        "data_sha256": given.dataset.sha256,
        "data": given.dataset.name,
        "images": str(len(given.dataset.images)),
    }


def _require_present(run: Path, state: State) -> None:
    """Raise UsageError where a run was made in another state than the present one."""
    recorded = baselines.facts_of(run)["identities"]
    moved = [name for name, one in state.identities.items() if name in recorded and changed(recorded[name], one)]
    if moved:
        raise UsageError(
            f"{run.name}: the bench has changed since this run was made ({', '.join(moved[:6])}): make it again, or "
            "leave it out and let the check measure what changed"
        )
