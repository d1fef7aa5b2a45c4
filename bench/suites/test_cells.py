"""Every cell by every instrument: `test_latency[onnx-int8-cpu-320]` and its like, one body for all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.grid.matrix import Cell
from bench.measure.instruments.registry import INSTRUMENTS


def _test_by(instrument: str) -> Callable[[Cell], None]:
    @pytest.mark.usefixtures("measured")
    def test_cell(cell: Cell) -> None:
        """The `measured` fixture does the work and fails or skips with the cell's reason."""
        assert cell.id

    test_cell.__name__ = f"test_{instrument}"
    return test_cell


globals().update({f"test_{name}": _test_by(name) for name in INSTRUMENTS})
