"""Where a run's time went: by step, and the cells that took longest."""

from __future__ import annotations

from dataclasses import dataclass

from bench.store.facts import SECONDS
from bench.store.reading import Run, StoredCell

TOTAL, OTHER = "total", "other"
SLOWEST = 10
STEPS = {
    "data": "Reading the checkpoint, rendering images",
    "environment": "Making the environments of runtimes",
    "export": "Exporting, with the exporters' environments",
    "load": "Loading artifacts, first inference",
    "parity": "Parity: raw outputs against PyTorch FP32",
    "accuracy": "Accuracy: mAP and its interval, and detections where no latency is taken",
    "attestation": "Attestation: asking what ran",
    "latency": "Latency: interleaved rounds over the images, and starting processes for them",
    OTHER: "Everything else: starting processes, storing",
}


@dataclass(frozen=True)
class Step:
    """Seconds that a step took, and its share of the whole, 0 to 1."""

    name: str
    seconds: float
    share: float


def steps(run: Run) -> tuple[Step, ...]:
    """Steps in the order in which they are done; empty for a run that recorded none (before it was recorded)."""
    spent = {fact.key: float(fact.value) for fact in run.facts if fact.scope == SECONDS}
    total = spent.pop(TOTAL, 0.0)
    if not total:
        return ()
    spent[OTHER] = max(0.0, total - sum(spent.values()))
    order = [*STEPS, *sorted(set(spent) - set(STEPS))]
    return tuple(
        Step(STEPS.get(step, step), spent[step], spent[step] / total)
        for step in order
        if step in spent and spent[step] >= 0.05
    )


def slowest(run: Run, count: int = SLOWEST) -> tuple[StoredCell, ...]:
    """The cells that took longest, longest first."""
    known = [cell for cell in run.cells if cell.seconds]
    return tuple(sorted(known, key=lambda cell: -(cell.seconds or 0.0))[:count])
