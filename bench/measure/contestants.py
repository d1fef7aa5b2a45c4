"""The two sides of an A/B: what of a cell is another on one side, and everything else the same on both.

A side is written as

    current                  the project's locks and exporters, as a run takes them (nothing given means this)
    onnxruntime==1.24.4      the run-only environment with that version, commas between several
    best.pt                  another checkpoint
    path/to/artifact         a folder with a manifest.json, as in the cache
    precision=int8           another precision of the same option
    v0.1.0                   any revision that git knows: locks, options, exporters and runtimes of then
    path/to/matrices         a folder of them, as that of --matrices: its locks, options, exporters and runtimes
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.environments import houses
from bench.environments.pinned import PinnedEnvironments, pins
from bench.files import exists
from bench.grid import machine
from bench.grid.matrix import Cell, not_benched
from bench.grid.request import Grid, Request, expand
from bench.measure.contest import SEED, Contest, Setting
from bench.measure.outfit import Outfit
from bench.measure.pairs import LATENCY, SIDES, Conditions, Side, condition, run_pair
from bench.measure.prepare import ingredients, of_house
from bench.progress import Reporter
from bench.reasons import UsageError
from bench.wall import checkpoint as checkpoints
from bench.wall.artifacts import MANIFEST, Artifact, damage

CURRENT = "current"
LOCKS = "envs"
"""What a folder of matrices is told by."""
_CHOICE = re.compile(r"^precision=(?P<value>[a-z0-9_-]+)$")


class Contestants:
    """Makes the sides of one cell."""

    def __init__(self, request: Request, progress: Reporter, *, huge: bool) -> None:
        """`request` must select one cell; `huge` asks for huge pages on both sides.

        Raises UsageError for a selection of none or several cells, a target that cannot be timed here, or wrong data.
        """
        self._request = request
        self._huge = huge
        self.grid: Grid = expand(request)
        self.cell = _only(self.grid, request)
        require_timed(self.grid, self.cell)
        self._given = ingredients(request, self.grid, progress)
        self.outfit = Outfit(self._given)

    def side(self, text: str) -> Side:
        """The side that `text` asks for, exported and installed now where it is not yet.

        Raises UsageError for what cannot be meant, CellProblem where it cannot be made.
        """
        given = text.strip() or CURRENT
        request, cell = self._request, self.cell
        choice = _CHOICE.match(given)
        outfit, artifact = self.outfit, None
        if given == CURRENT:
            pass
        elif pinned := pins(given):
            running = PinnedEnvironments(request.matrices, request.cache, pinned)
            outfit = Outfit(replace(self._given, running=running))
        elif given.endswith(".pt"):
            checkpoint = checkpoints.resolve(given, self._given.environments, request.cache)
            outfit = Outfit(replace(self._given, checkpoints={cell.model: checkpoint}))
        elif exists(Path(given) / MANIFEST):
            artifact = _read_artifact(Path(given))
        elif choice is not None:
            cell = self._other_precision(choice["value"])
        elif exists(Path(given) / LOCKS):
            outfit, cell = self.of_house(Path(given))
        else:
            outfit, cell = self.of_house(houses.of_revision(given, request.cache))
        return make_side(given, outfit, cell, huge=self._huge, artifact=artifact)

    def of_house(self, matrices: Path) -> tuple[Outfit, Cell]:
        """Outfit and cell as another house has them.  Raises UsageError where it is none, or does not have the cell."""
        request = Request(self._request.given() | {"matrices": str(matrices)})
        grid = expand(request)
        return Outfit(of_house(self._given, matrices, grid)), _only(grid, request)

    def _other_precision(self, name: str) -> Cell:
        option = self.cell.option
        if name not in option.precisions:
            raise UsageError(f"precision={name}: {option.name} has {', '.join(option.precisions)}")
        return replace(self.cell, precision=name)


def make_side(label: str, outfit: Outfit, cell: Cell, *, huge: bool, artifact: Artifact | None = None) -> Side:
    """A side of a cell as an outfit makes it, with another artifact where one is given.

    Exported and installed now where it is not yet.  Raises CellProblem, and UsageError as `Outfit` does.
    """
    env = outfit.environment(cell.environment, cell.target)
    spec = outfit.load_spec(cell, artifact or outfit.artifact(cell))
    variables = outfit.running.variables() | condition(huge=huge)
    return Side(label, env, outfit.matrix.runtime(cell), spec, variables)


def contest(
    name: str,
    outfit: Outfit,
    cell: Cell,
    sides: tuple[Side, Side],
    margins: Mapping[str, float],
    log: Path,
    inferences: int | None = None,
    metric: str = LATENCY,
) -> Contest:
    """A contest of base and candidate of a cell; see `Conditions` for `inferences`, `Contest` for `metric`."""
    setting = Setting(dict(zip(SIDES, sides, strict=True)), conditions(outfit, cell, log, inferences))
    shuffle = random.Random(f"{SEED} {name}")  # noqa: S311 - an order of turns that can be had again
    return Contest(name, partial(run_pair, setting.sides, setting.conditions, shuffle), margins, setting, metric=metric)


def conditions(outfit: Outfit, cell: Cell, log: Path, inferences: int | None = None) -> Conditions:
    """What both sides of a cell share: its first image, its CPUs and threads."""
    x = np.repeat(outfit.input([0], cell.imgsz), cell.batch, axis=0)
    return Conditions(x, outfit.cpus(cell), cell.threads, outfit.deadlines(cell), log, inferences)


def require_timed(grid: Grid, cell: Cell) -> None:
    """Raise UsageError for a cell that nothing here makes, or whose target is not here or times nothing."""
    target = grid.matrix.targets[cell.target]
    if why_not := not_benched(cell.option):
        raise UsageError(why_not)
    presence = machine.detect(target)
    if not presence.found:
        raise UsageError(presence.text)
    if not target.timed:
        raise UsageError(f"{target.name}: results are checked there, no latency is taken; choose another --targets")


def _only(grid: Grid, request: Request) -> Cell:
    """The one cell asked for; PyTorch FP32, which comes with every selection, only where it is asked for by name."""
    named = grid.matrix.named(request.names("options") or [])
    cells = [cell for cell in grid.cells if not cell.is_reference or cell.option.id in named]
    cells = [cell for cell in cells if machine.detect(grid.matrix.targets[cell.target]).found] or cells
    if len(cells) == 1:
        return cells[0]
    shown = ", ".join(cell.id for cell in cells[:12]) + (", ..." if len(cells) > 12 else "")
    raise UsageError(
        "an A/B times one cell; choose it with --model, --options, --precisions, --targets, --imgsz, --batch and "
        "--threads; two models are compared by giving the other as a side, `best.pt`. "
        f"Selected are {len(cells)}: {shown or 'none'}"
    )


def _read_artifact(folder: Path) -> Artifact:
    """The artifact of a folder, its files as its manifest says.  Raises UsageError for any other."""
    wrong = damage(folder)
    if wrong is not None:
        raise UsageError(f"{folder} is not the artifact that its {MANIFEST} describes: {wrong}; export it again")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Artifact(str(manifest["key"]), folder.resolve(), manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / MANIFEST} is no manifest of an artifact: {error!r}") from error
