"""What the tests' own sweeps share."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.places import MATRICES

LATENCY_OF_SECONDS = """
[latency]
samples = 3
warmup = 1
rounds = 2
min_launches = 3
max_launches = 3
half_width = 0.5
budget_s = 20
"""
"""The end of a sweep whose latency takes seconds: as few launches as still give an interval."""


def matrices_with(sweep: str, place: Path, name: str = "tiny") -> Path:
    """The project's matrices in a folder of their own, with a sweep of this name and text."""
    folder = shutil.copytree(MATRICES, place / "matrices")
    (folder / "sweeps" / f"{name}.toml").write_text(sweep, encoding="utf-8")
    return folder
