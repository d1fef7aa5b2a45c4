"""What an instrument is: one way of measuring a cell, with a pytest test of its own name.

A module beside this one holds each; adding one means a module and an entry in `registry.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.environments.locked import Env
from bench.grid.matrix import Cell
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem, Reason, Status
from bench.tasks.task import AnyTask, Outputs
from bench.wall.artifacts import Artifact
from bench.wall.worker import Worker


class Instrument(ABC):
    """One way of measuring.  `name` is that of its test, `test_<name>[<cell>]`."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Instruments that must have measured the cell before."""
    compares: ClassVar[bool] = False
    """Whether the cell's reference must have been measured by this instrument before."""
    joins: ClassVar[str] = ""
    """An instrument of runs that measures this too, of the cells that it measures at all."""
    fills: ClassVar[tuple[str, ...]] = ()
    """Columns of the table `cells` that it fills, for every task."""

    def columns(self, task: AnyTask) -> tuple[str, ...]:
        """Columns that it fills for cells of a task: `fills`, where the task makes no difference."""
        del task
        return self.fills


Joined = Mapping[str, Collection[str]]
"""Ids of cells by the instrument that joins in measuring them."""
Problems = Mapping[str, Mapping[str, CellProblem]]
"""Why some cells have no result, by instrument and cell id."""


@dataclass
class Running:
    """A cell whose artifact is loaded: the guest that holds it, and the environment that the guest runs in.

    `first` are the raw outputs for the first image, which fills a batch; None before it was inferred.
    """

    guest: Worker
    env: Env
    first: Outputs | None = None


@dataclass(frozen=True)
class Subject:
    """A cell on the bench.  `running` is None for instruments that need no guest.

    `evaluated` says whether its accuracy is wanted: what it predicts of any image is then kept for that.
    """

    workshop: Workshop
    cell: Cell
    artifact: Artifact
    running: Running | None = None
    evaluated: bool = False

    @property
    def guest(self) -> Worker:
        """The guest that holds the artifact."""
        assert self.running is not None, "only instruments with `in_guest` may use the guest"
        return self.running.guest


class CellInstrument(Instrument):
    """Measures one cell at a time."""

    in_guest: ClassVar[bool] = True
    """Whether it needs a guest in which the artifact is loaded."""
    of_machine: ClassVar[bool] = False
    """Whether what it finds is of the machine: taken where the cell is timed, which any other may not stand in for."""

    @abstractmethod
    def measure(self, subject: Subject) -> None:
        """Measure and store.  Raises CellProblem where there is no result."""


class RunInstrument(Instrument):
    """Measures all cells of a run together, once the others are done."""

    @abstractmethod
    def applies(self, workshop: Workshop, cell: Cell) -> str:
        """Why a cell that was characterised is left out, or nothing where it is measured."""

    @abstractmethod
    def left_out_before(self, row: Mapping[str, Any]) -> str:
        """Why `applies` left out a cell whose row of the table `cells` this is, or nothing where it did not."""

    @abstractmethod
    def measure_all(self, workshop: Workshop, cells: Sequence[Cell], joined: Joined) -> Problems:
        """Measure and store; `joined` says which of them are to be measured by other instruments at the same time."""


def left_out(why_not: str) -> CellProblem:
    """What an instrument of runs made of a cell that it does not apply to, which is measured by the others."""
    return CellProblem(Reason.NOT_TIMED, why_not, Status.MEASURED)
