"""What a cell's runtime must say that it ran, how far its outputs may be from PyTorch FP32's, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.grid import machine
from bench.grid.matrix import Cell
from bench.grid.schema import ParityLimit, Target
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


def beyond(found: Mapping[str, float], limits: Mapping[str, ParityLimit], rounding: str) -> str:
    """In words, the first limit that differences of raw outputs are beyond; empty where they are beyond none.

    `found` are the differences by name ("box_max"), `rounding` is the coarsest type that numbers pass through.
    """
    most = limits[rounding].given() if rounding in limits else {}
    for name, limit in most.items():
        if found.get(name, 0.0) > limit:
            return (
                f"Raw outputs are {_amount(name, found[name])} from PyTorch FP32's on the same inputs ({name}); "
                f"{rounding} stays within {_amount(name, limit)}. So something else was computed"
            )
    return ""


def too_near(found: Mapping[str, float], limits: Mapping[str, ParityLimit], arithmetic: str) -> str:
    """Likewise, the first limit that they do not reach though they were computed in `arithmetic`."""
    least = limits[arithmetic].least.given() if arithmetic in limits else {}
    for name, limit in least.items():
        if name in found and found[name] < limit:
            return (
                f"Raw outputs are {_amount(name, found[name])} from PyTorch FP32's on the same inputs ({name}); "
                f"{arithmetic} moves them by {_amount(name, limit)} at least. So something finer was computed"
            )
    return ""


def _amount(name: str, value: float) -> str:
    return f"{value:.3g}" + (" px" if name.startswith("box") else "")
