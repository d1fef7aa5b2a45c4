"""Every column of a cell has one source: what identifies it, or the one instrument that fills it."""

from __future__ import annotations

from collections import Counter

from bench.measure.instruments.registry import INSTRUMENTS
from bench.store.tables import CELLS
from bench.tasks.detect.task import DETECT

IDENTITY = (
    "run_id", "cell_id", "model", "model_sha256", "option", "precision", "target", "imgsz", "batch", "threads",
    "reference_id",
)  # fmt: skip
OUTCOME = ("status", "reason_code", "reason", "started", "seconds")


def test_every_column_has_one_source() -> None:
    filled = Counter(name for instrument in INSTRUMENTS.values() for name in instrument.columns(DETECT))
    assert max(filled.values()) == 1, filled.most_common(1)
    assert {*IDENTITY, *OUTCOME, *filled} == set(CELLS.names)
    assert not {*IDENTITY, *OUTCOME} & filled.keys()
