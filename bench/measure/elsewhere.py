"""Who does, beside this process, what of a run any machine may do: exports, raw outputs for parity, predictions.

The embedded default has nobody: cells are measured one after another in one process.  `bench.fleet` has the workers of
a cluster.  What is of a machine (footprint, attestation, latency) stays here, but for cells that are asked to be timed
on workers, or whose target only workers have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from bench.grid.matrix import Cell
from bench.grid.schema import Target
from bench.reasons import CellProblem
from bench.tasks.task import Outputs

if TYPE_CHECKING:
    from bench.measure.workshop import Workshop


class Elsewhere(Protocol):
    """Others that work for a run.  Every method may raise UsageError where they are lost."""

    times: bool
    """Whether it is they who take times; else this machine does."""

    def meet(self, workshop: Workshop, cells: Sequence[Cell], absent: Collection[str]) -> None:
        """Learn what the run is made of, and decide who measures what of a machine; this one lacks `absent` targets.

        Raises UsageError where what was asked for does not say which machine is to take times.
        """

    def begin(self, cells: Sequence[Cell], wanted: Mapping[str, Collection[str]]) -> None:
        """Have them begin with all that they can do of these cells; what they cannot is measured here.

        `wanted` are names of instruments, by cell id.
        """

    def export(self, cell: Cell) -> None:
        """Wait until the artifacts that they make for a cell are in this machine's cache.

        Raises CellProblem where the exporter has refused.
        """

    def looks(self, cell: Cell) -> bool:
        """Whether footprint and attestation of a cell are taken by them."""

    def look(self, cell: Cell, wanted: Collection[str]) -> bool:
        """Have a worker take them, as far as they are `wanted`, and store them; False where it is done here.

        Raises CellProblem.
        """

    def outputs(self, cell: Cell) -> list[Outputs] | None:
        """A cell's raw outputs on the images of parity, in their order; None where they were not asked for them.

        Raises CellProblem.
        """

    def predict(self, cell: Cell, add: Callable[[Mapping[int, Any]], None]) -> bool:
        """Give `add` what the task decodes of every image of a cell, by image id, in parts.

        False, and nothing, where they were not asked for it.  Raises CellProblem, and what `add` raises.
        """

    def why_untimed(self, cell: Cell) -> str:
        """Why neither they nor this machine take the times of a cell, or nothing."""

    def rest(self) -> None:
        """Let go of everything: what comes next is timed, and workers on this machine would disturb it."""

    def time(self, cells: Sequence[Cell]) -> Mapping[str, CellProblem]:
        """Time cells and store what comes of it; returns why some have no latency, by cell id."""


def movable(target: Target) -> bool:
    """Whether others may do cells of a target: not an emulated machine's, and on images that are known beforehand."""
    return not target.emulator and (target.images is None or not target.timed)
