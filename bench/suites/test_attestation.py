"""What the runtime says it ran is what was asked."""

from __future__ import annotations

import pytest

from bench.matrix import Cell


@pytest.mark.usefixtures("measured")
def test_attestation(cell: Cell) -> None:
    """The `measured` fixture does the work and fails or skips with the cell's reason."""
    assert cell.id
