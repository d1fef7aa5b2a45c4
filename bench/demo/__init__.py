"""The model and data every run can fall back on: a YOLO11n trained on images this package renders itself."""

from __future__ import annotations

from pathlib import Path

from bench.demo.dataset import prepare

CHECKPOINT: Path = Path(__file__).with_name("yolo11n-demo.pt")

__all__ = ["CHECKPOINT", "prepare"]
