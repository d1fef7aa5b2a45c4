"""What a cell's runtime must say that it ran, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.grid import machine
from bench.grid.matrix import Cell
from bench.grid.schema import Target
from bench.reasons import CellProblem, Reason, Status


def expected(cell: Cell, target: Target) -> dict[str, Any]:
    """What a cell's runtime must attest, in the keys of an attestation; `target` is the cell's."""
    # An emulated processor is not the one whose features these are; it has what the target asks for.
    lacks = not target.emulator and target.lacks(cell.compute, machine.cpu_flags())
    wanted = {
        "device": target.device,
        "compute": cell.spec.compute if lacks else cell.compute,
        "threads": cell.threads,
        "input_shape": [cell.batch, 3, cell.imgsz, cell.imgsz],
    }
    if not target.threaded:
        del wanted["threads"]
    return wanted


def require(cell: Cell, wanted: Mapping[str, Any], attested: Mapping[str, Any]) -> None:
    """Raise CellProblem (invalid) when what a runtime says it ran is not what was asked."""
    wrong = [key for key, value in wanted.items() if attested.get(key) != value]
    if wrong:
        pairs = "; ".join(f"{key}: asked {wanted[key]}, ran {attested.get(key)}" for key in wrong)
        raise CellProblem(
            Reason.ATTESTATION_MISMATCH, f"{cell.option.name} ran something else: {pairs}.", Status.INVALID
        )
