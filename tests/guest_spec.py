"""What a runtime adapter's `load` is given, for the tests that start guests without a run around them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.wall.artifacts import Artifact


def spec(
    artifact: Artifact,
    imgsz: int,
    *,
    precision: str = "fp32",
    target: str = "cpu",
    threads: int = 1,
    batch: int = 1,
    options: Mapping[str, Any] | None = None,
    javascript: Path | str = "",
) -> dict[str, Any]:
    """As bench.wall.spec.load_spec makes it of a cell; `javascript` is the folder of the packages that a page loads."""
    return {
        "artifact_dir": str(artifact.directory),
        "javascript_dir": str(javascript),
        "manifest": artifact.manifest,
        "target": target,
        "threads": threads,
        "precision": precision,
        "imgsz": imgsz,
        "batch": batch,
        "options": dict(options or {}),
    }
