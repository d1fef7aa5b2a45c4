"""A small run of a worker's own: what is of a machine (footprint, attestation, latency) measured as any run does.

It has a store in a folder that is gone afterwards; what the store holds goes to the run that asked, as a `Told`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.grid import machine
from bench.grid.matrix import Cell
from bench.measure.identity import identity
from bench.measure.instruments.instrument import Running, Subject
from bench.measure.instruments.registry import INSTRUMENTS, of_cells
from bench.measure.outfit import Ingredients
from bench.measure.session import beyond, take
from bench.measure.timing import Campaign, free_bytes
from bench.measure.workshop import Settings, Workshop
from bench.reasons import CellProblem
from bench.stats.launches import Launch
from bench.stats.turns import Turn
from bench.store.facts import IDENTITY
from bench.store.tables import TIMED_ON
from bench.store.writing import RunStore
from bench.wall.artifacts import Artifact

_RUN = "small"


@dataclass(frozen=True)
class Told:
    """What a small run gives.

    `columns` of the table `cells` by cell id, `facts` by scope and key, `problems` why cells have no result, by cell
    id; `emulated` is what stands in for the device, if anything does, `free` the bytes that guests may fill, by the
    column that tells how many each needs.
    """

    machine: str
    columns: Mapping[str, Mapping[str, Any]]
    turns: tuple[Turn, ...] = ()
    launches: tuple[Launch, ...] = ()
    facts: Mapping[tuple[str, str], str] = field(default_factory=dict)
    problems: Mapping[str, CellProblem] = field(default_factory=dict)
    emulated: str = ""
    free: Mapping[str, int] = field(default_factory=dict)


def look(given: Ingredients, cell: Cell, artifact: Artifact, wanted: Sequence[str]) -> Told:
    """Load a cell's artifact, and take it through those of the instruments `wanted` that are of a machine.

    Raises CellProblem.
    """
    problem = beyond(cell)
    if problem is not None:
        raise problem
    with _workshop(given, [cell], {cell.cell_id: artifact}) as workshop:
        env = workshop.environment(cell.environment, cell.target)
        packages = env.freeze()
        names = [one for one in of_cells(wanted) if one.of_machine]
        with workshop.guest(cell, env, "measure") as guest:
            subject = Subject(workshop, cell, artifact, Running(guest, env))
            for instrument in names:
                take(instrument, subject, packages)
        free = free_bytes(workshop, [cell])
        workshop.note(IDENTITY, {cell.cell_id: identity(workshop, cell, artifact.key)})
        emulated = workshop.emulated(cell)
        return _told(workshop, [cell], [one.name for one in names], emulated=emulated, free=free)


def time(
    given: Ingredients, cells: Sequence[Cell], artifacts: Sequence[Artifact], rows: Mapping[str, Mapping[str, Any]]
) -> Told:
    """Time some cells together, behind the lock of this machine; `rows` holds what is known of their guests' memory."""
    by_id = {cell.cell_id: artifact for cell, artifact in zip(cells, artifacts, strict=True)}
    with _workshop(given, cells, by_id) as workshop:
        workshop.store.update_all(rows)
        found, _ = Campaign(workshop, cells).run()
        problems = {name: sendable(problem) for name, problem in found.items()}
        return _told(workshop, cells, ["latency", "footprint", "attestation"], problems=problems)


def sendable(problem: CellProblem) -> CellProblem:
    """The same problem made of its parts by position, which is how an exception is read again where it is sent to."""
    return CellProblem(problem.reason, problem.text, problem.status)


@contextmanager
def _workshop(given: Ingredients, cells: Sequence[Cell], artifacts: Mapping[str, Artifact]) -> Iterator[Workshop]:
    with tempfile.TemporaryDirectory(prefix="yolo11-bench-") as folder:
        directory = Path(folder)
        references = {cell.cell_id: given.matrix.reference_of(cell).cell_id for cell in cells}
        store = RunStore(directory, _RUN, cells, references)
        workshop = Workshop(Settings("", directory, _RUN), given, store)
        workshop.use(artifacts)
        yield workshop


def _told(workshop: Workshop, cells: Sequence[Cell], instruments: Sequence[str], **more: Any) -> Told:
    store = workshop.store
    filled = {column for name in instruments for column in INSTRUMENTS[name].columns(workshop.task)}
    columns = {
        cell.cell_id: {name: value for name, value in store.row(cell).items() if name in filled} for cell in cells
    }
    own = machine.machine_id()
    fingerprint = machine.fingerprint(workshop.matrix.targets.values())
    facts = {(_scope(scope, own), key): value for (scope, key), value in store.environment.items()}
    facts |= {(f"{TIMED_ON}{own}", key): value for key, value in fingerprint.items()}
    return Told(own, columns, tuple(store.turns), tuple(store.launches), facts, **more)


def _scope(scope: str, own: str) -> str:
    """A scope of the asking run's: an environment is that of this machine, the rest is of cells."""
    return f"{TIMED_ON}{own}:{scope}" if scope.partition(":")[0] in ("env", "js") else scope
