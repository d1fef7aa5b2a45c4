"""COCO mAP of every cell, with its difference from PyTorch FP32."""

from __future__ import annotations

import pytest

from bench.matrix import Cell


@pytest.mark.usefixtures("measured")
def test_accuracy(cell: Cell) -> None:
    """The `measured` fixture does the work and fails or skips with the cell's reason."""
    assert cell.id
