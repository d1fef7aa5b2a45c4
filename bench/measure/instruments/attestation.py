"""What the runtime says it ran is what was asked."""

from __future__ import annotations

import json
from typing import Any

from bench.grid.matrix import Cell
from bench.guest.seal import NETWORK, WRITES
from bench.measure.expectation import require
from bench.measure.instruments.instrument import CellInstrument, Subject
from bench.measure.workshop import Workshop


class Attestation(CellInstrument):
    """Asks the runtime and compares its answer with the matrix."""

    name = "attestation"
    needs = ("footprint",)
    of_machine = True
    fills = ("attested", "expected", "compute", NETWORK, WRITES)

    def measure(self, subject: Subject) -> None:
        """Store the answer.  Raises CellProblem (invalid) where it is not what was asked."""
        with subject.workshop.progress.timed(subject.cell.id, self.name):
            attest(subject)


def attest(subject: Subject) -> None:
    """Ask a cell's guest what it runs, and store that.  Raises CellProblem (invalid) where it is not what was asked."""
    workshop, cell = subject.workshop, subject.cell
    timeout = 5 * workshop.deadlines(cell).infer  # a runtime may need some inferences to say it
    check_attestation(workshop, cell, subject.guest.stats(attest=True, timeout=timeout).attested)


def check_attestation(workshop: Workshop, cell: Cell, attested: dict[str, Any]) -> None:
    """Store what a runtime says it ran.  Raises CellProblem (invalid) when that is not what was asked."""
    expected = workshop.expected(cell)
    workshop.store.update(
        cell,
        attested=json.dumps(attested, sort_keys=True),
        expected=json.dumps(expected, sort_keys=True),
        compute=str(attested.get("compute", "")),
        network=attested.get(NETWORK),
        writes=attested.get(WRITES),
    )
    require(cell, expected, attested)
