"""States of a cell that differ in their locks alone: what a bisection looks at between a good and a bad one.

A state is a house of its own (`bench.environments.houses`): the present matrices, exporters and runtimes with other
locks, so that it can be swept, or timed beside another, like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.environments import brought, houses
from bench.environments.locked import Environments
from bench.environments.pinned import PinnedEnvironments, Update, holds, mixed, pins, updates, version_in
from bench.grid.request import Request
from bench.measure import exporting
from bench.measure.contestants import CURRENT, LOCKS, Contestants
from bench.measure.identity import Identity, identity
from bench.measure.pairs import Side
from bench.progress import Reporter
from bench.reasons import UsageError

Locks = Mapping[str, str]
"""Locks by family."""


@dataclass(frozen=True)
class State:
    """A state by its label; `identity` is what the cell's figures rest on in it, `matrices` the folder of its locks.

    `side` is how `yolo11-bench ab` is told of it.
    """

    label: str
    matrices: Path
    identity: Identity
    side: str

    @property
    def key(self) -> str:
        """Equal for states in which the cell is the same."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


class States:
    """Makes the states of one cell."""

    def __init__(self, request: Request, progress: Reporter, *, huge: bool) -> None:
        """`request` must select one cell.

        Raises UsageError as `Contestants` does, and where the user's own interpreter stands in for one of the locks.
        """
        self.request = request
        self.contestants = Contestants(request, progress, huge=huge)
        cell, outfit = self.contestants.cell, self.contestants.outfit
        stages = exporting.stages(cell, outfit.matrix, outfit.checkpoints[cell.model].path, ())
        self.families = tuple(dict.fromkeys([cell.environment, *(stage.environment for stage in stages)]))
        """Environments that the cell runs in, and that its artifact is exported in, in this order."""
        for family in self.families:
            if brought.given(family):
                raise UsageError(
                    f"{brought.variable(family)} puts an interpreter of your own in the place of the lock of "
                    f"{family}, so there are no versions to choose between; unset it"
                )

    def locks(self, text: str) -> Locks:
        """The locks that a side of a bisection means: `current`, packages, a git revision, or a folder of matrices.

        Raises UsageError for anything else, Unresolvable where no set of versions has the packages.
        """
        given = text.strip() or CURRENT
        if given == CURRENT:
            return self._of(self.request.matrices)
        if named := pins(given):
            return self.pinned(named)
        if (Path(given) / LOCKS).is_dir():
            return self._of(Path(given))
        return self._of(houses.of_revision(given, self.request.cache))

    def pinned(self, packages: Sequence[str]) -> Locks:
        """The present locks with these packages at these versions, each where the cell runs, else where it is exported.

        Raises UsageError where no environment of the cell holds one, Unresolvable where no set of versions has them.
        """
        present = self._of(self.request.matrices)
        wanted: dict[str, list[str]] = {}
        for pin in packages:
            wanted.setdefault(self.family_of(pin.partition("==")[0]), []).append(pin)
        changed = {
            family: PinnedEnvironments(self.request.matrices, self.request.cache, own).lock_text(family)
            for family, own in wanted.items()
        }
        return {**present, **changed}

    def family_of(self, package: str) -> str:
        """The environment whose lock holds a package.  Raises UsageError where none of the cell's does."""
        present = self._of(self.request.matrices)
        found = next((family for family in self.families if holds(present[family], package)), None)
        if found is None:
            raise UsageError(f"{package}: no environment of this cell holds it; looked in {', '.join(self.families)}")
        return found

    def differing(self, good: Locks, bad: Locks) -> list[Update]:
        """What differs between two sets of locks, family by family."""
        return [one for family in self.families for one in updates(family, good[family], bad[family])]

    def between(self, good: Locks, bad: Locks, chosen: Sequence[Update]) -> Locks:
        """The good locks with some updates.  Raises Unresolvable where their versions exclude each other."""
        names = {family: [one.name for one in chosen if one.family == family] for family in self.families}
        return {family: mixed(family, good[family], bad[family], names[family]) for family in self.families}

    def version_of(self, package: str) -> str:
        """The version of a package in the present locks.  Raises UsageError as `family_of`."""
        return version_in(self._of(self.request.matrices)[self.family_of(package)], package)

    def version(self, package: str, version: str) -> State:
        """The state with a package at another version.  Raises as `pinned` and `state`."""
        pin = f"{package}=={version}"
        # What is changed where the cell is exported, an A/B does not know as a package.
        runs = self.family_of(package) == self.contestants.cell.environment
        return self.state(pin, self.pinned([pin]), pin if runs else None)

    def state(self, label: str, locks: Locks, side: str | None = None) -> State:
        """The state of these locks; nothing is installed or exported yet.  Raises UsageError, CellProblem."""
        matrix = self.contestants.grid.matrix
        house = houses.with_locks(matrix.directory, matrix.guest, locks, self.request.cache)
        outfit, cell = self.contestants.of_house(house)
        return State(label, house, identity(outfit, cell, outfit.artifact_key(cell)), side or str(house))

    def side(self, state: State) -> Side:
        """A state as a side of a pair, exported and installed now where it is not yet.  Raises CellProblem."""
        return replace(self.contestants.side(str(state.matrices)), label=state.label)

    def _of(self, matrices: Path) -> Locks:
        environments = Environments(matrices, self.request.cache)
        return {family: environments.lock_text(family) for family in self.families}
