"""What a campaign works on: a cache of its own, a matrix with its sweep, a few images, a whole run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import yaml
from faults.going import SWEEP, SWEEP_TEXT, going
from faults.kinds import Setting

from bench import demo
from bench.environments.locked import Environments
from bench.grid.matrix import Matrix, load
from bench.grid.request import Request
from bench.measure import exporting
from bench.places import DEMO_CHECKPOINT, MATRICES
from bench.wall import checkpoint
from bench.wall.artifacts import Artifact, Artifacts

IMAGES = 8
LINKED = ("envs", "js", "demo", "checkpoints", "ultralytics", "emulators")
"""Folders of the user's cache that the campaign's own leads to."""


def prepare(folder: Path, *, run: Path | None = None, sweep: str = SWEEP_TEXT) -> Setting:
    """A setting below a folder; `run` stands in for a whole run, made now otherwise, and `sweep` for its sweep.

    Artifacts are exported into the user's cache where they are not there yet.
    """
    users = Request({}).cache
    matrices = folder / "matrices"
    shutil.copytree(MATRICES, matrices)
    (matrices / "sweeps" / f"{SWEEP}.toml").write_text(sweep, encoding="utf-8")
    demo_file = demo.prepare(users / "demo")
    found = _artifacts(load(matrices), users)
    cache = folder / "cache"
    cache.mkdir()
    for name in LINKED:
        (users / name).mkdir(exist_ok=True)
        (cache / name).symlink_to(users / name)
    for artifact in found.values():
        shutil.copytree(artifact.directory, cache / "artifacts" / artifact.key)
    own = {option: Artifact(one.key, cache / "artifacts" / one.key, one.manifest) for option, one in found.items()}
    setting = Setting(folder, cache, matrices, run or folder / "run", _few(demo_file, folder / "data"), own)
    return setting if run is not None else _with_run(setting)


def _artifacts(matrix: Matrix, cache: Path) -> dict[str, Artifact]:
    """The artifacts of the sweep's cells by option, each as a run would make it."""
    environments = Environments(matrix.directory, cache)
    checkpoint.resolve(str(DEMO_CHECKPOINT), environments, cache)  # looked into once, kept for every run
    artifacts, sweep = Artifacts(cache, environments), matrix.sweep(SWEEP)
    return {
        cell.option.id: exporting.export(exporting.stages(cell, matrix, DEMO_CHECKPOINT, ()), artifacts, 900.0)
        for cell in matrix.cells(DEMO_CHECKPOINT.stem, sweep)
    }


def _few(data: Path, folder: Path) -> Path:
    """The data file of a few of the demo's images, copied."""
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for image in sorted((data.parent / "images" / "val").glob("*.png"))[:IMAGES]:
        shutil.copy(image, folder / "images" / "val")
        shutil.copy(data.parent / "labels" / "val" / f"{image.stem}.txt", folder / "labels" / "val")
    content = yaml.safe_load(data.read_text(encoding="utf-8"))
    kept = {"path": ".", "train": "images/val", "val": "images/val", "names": content["names"]}
    path = folder / "few.yaml"
    path.write_text(yaml.safe_dump(kept), encoding="utf-8")
    return path


def _with_run(setting: Setting) -> Setting:
    """The same with a run of the sweep, and what it took."""
    scratch, started = setting.scratch(), time.monotonic()
    with going(setting, scratch) as one:
        done = one.end()
    if done.code:
        raise SystemExit(f"the run that nothing happens to ended with {done.code}:\n{done.said}")
    shutil.copytree(one.watched.run, setting.run)
    seconds = time.monotonic() - started
    return Setting(
        setting.folder, setting.cache, setting.matrices, setting.run, setting.data, setting.artifacts, seconds
    )
