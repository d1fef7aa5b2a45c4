"""Trains the demo checkpoint again: renders the data, builds the export environment and runs the recipe in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.demo.dataset import prepare
from bench.environments.locked import Environments
from bench.places import DEMO_CHECKPOINT, GUEST, IN_CHECKOUT, MATRICES
from bench.reasons import UsageError

FAMILY = "export-torch"  # the locked environment that holds torch, torchvision and ultralytics
RECIPE = GUEST / "train_demo.py"


def run(cache: Path, epochs: int, images: int, device: str, out: Path | None) -> int:
    """Train for `epochs` on `images` rendered images and write yolo11n-demo.pt, training.csv and .json into `out`.

    Without `out` they replace a checkout's own; what is installed is not changed: then they go to the folder `demo`.
    `device` is "cpu" or the index of a CUDA device; the data set and the environment are kept in `cache`.  Returns the
    recipe's exit code.  Raises UsageError for counts below one, and what `prepare` and `Environments.ensure` raise.
    """
    if epochs < 1 or images < 1:
        raise UsageError(f"training needs at least 1 epoch and 1 image, got {epochs} epochs and {images} images")
    out = out or (DEMO_CHECKPOINT.parent if IN_CHECKOUT else Path("demo"))
    cpus = os.cpu_count() or 1
    data = prepare(cache / "demo", ("val", "calib", "train"), counts={"train": images}, workers=cpus)
    environments = Environments(MATRICES, cache)
    python = environments.ensure(FAMILY).python
    command = [str(python), str(RECIPE), "--data", str(data), "--out", str(out.resolve() / DEMO_CHECKPOINT.name)]
    command += ["--epochs", str(epochs), "--device", device, "--workers", str(cpus)]
    # Ultralytics would otherwise set one OpenMP thread.
    variables = environments.variables() | {"OMP_NUM_THREADS": str(cpus)}
    return subprocess.run(command, env=variables, check=False).returncode
