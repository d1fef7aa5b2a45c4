"""The model and data every run can fall back on: a YOLO11n trained on images this package renders itself."""

from __future__ import annotations

from pathlib import Path

from bench.demo.dataset import prepare
from bench.places import DEMO_CHECKPOINT

CHECKPOINT: Path = DEMO_CHECKPOINT

__all__ = ["CHECKPOINT", "prepare"]
