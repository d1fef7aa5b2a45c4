"""Who does, beside this process, what of a run any machine may do: exports, raw outputs for parity, predictions.

The embedded default has nobody: cells are measured one after another in one process.  `bench.fleet` has the workers of
a cluster.  What is asked of the guest whose figures are of this machine (footprint, attestation, latency) stays here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from bench.grid.matrix import Cell
from bench.tasks.task import Outputs

if TYPE_CHECKING:
    from bench.measure.workshop import Workshop


class Elsewhere(Protocol):
    """Others that work for a run.  Every method may raise UsageError where they are lost."""

    def begin(self, workshop: Workshop, cells: Iterable[Cell]) -> None:
        """Have them begin with all that they can do of these cells; what they cannot is measured here."""

    def export(self, cell: Cell) -> None:
        """Wait until the artifacts that they make for a cell are in this machine's cache.

        Raises CellProblem where the exporter has refused.
        """

    def outputs(self, cell: Cell) -> list[Outputs] | None:
        """A cell's raw outputs on the images of parity, in their order; None where they were not asked for them.

        Raises CellProblem.
        """

    def predict(self, cell: Cell, add: Callable[[Mapping[int, Any]], None]) -> bool:
        """Give `add` what the task decodes of every image of a cell, by image id, in parts.

        False, and nothing, where they were not asked for it.  Raises CellProblem, and what `add` raises.
        """

    def rest(self) -> None:
        """Let go of everything: what comes next is timed, and workers on this machine would disturb it."""
