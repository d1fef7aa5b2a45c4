"""What a runtime adapter is told to load: a cell's part of the matrix, and its artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.grid.matrix import Cell
from bench.wall.artifacts import Artifact


def load_spec(cell: Cell, artifact: Artifact, javascript: Path | None) -> dict[str, Any]:
    """What a runtime adapter's `load` is given; `javascript` is the folder of the packages that its page serves."""
    return {
        "javascript_dir": str(javascript or ""),
        "artifact_dir": str(artifact.directory),
        "manifest": artifact.manifest,
        "target": cell.target,
        "threads": cell.threads,
        "precision": cell.precision,
        "imgsz": cell.imgsz,
        "batch": cell.batch,
        "options": dict(cell.spec.runtime_options),
    }
