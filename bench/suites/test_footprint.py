"""Every artifact loads in its own environment; size, memory, import and load time are recorded."""

from __future__ import annotations

import pytest

from bench.matrix import Cell


@pytest.mark.usefixtures("measured")
def test_footprint(cell: Cell) -> None:
    """The `measured` fixture does the work and fails or skips with the cell's reason."""
    assert cell.id
