"""What a sweep costs beside Ultralytics' own benchmark of the same formats, in turn, on a machine that is quiet.

    python -m tests.against_ultralytics --model yolo11n.pt --data coco128.yaml --repeats 5

Both sides export the four formats of `OPTIONS` anew and evaluate the same images, pinned to the same CPU with one
thread; what both find installed is installed before.  Ours is then run again with its artifacts in the cache: of that
the share inside timed inferences is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.environments.locked import Environments
from bench.grid import machine
from bench.grid.request import CACHE_VARIABLE, Request
from bench.places import MATRICES, ROOT
from bench.store import read_table
from bench.tasks.detect.task import DETECT
from bench.tasks.images import label_path
from bench.wall import checkpoint as checkpoints
from bench.wall.worker import with_threads

OPTIONS = {"pytorch": "-", "torchscript": "torchscript", "onnx": "onnx", "openvino": "openvino"}
"""Our options with Ultralytics' names of the formats."""
FAMILIES = ("export-torch", *OPTIONS)
THEIRS = Path(__file__).parent / "guests" / "their_benchmark.py"
_SHARED = ("envs", "checkpoints", "ultralytics")
"""What of the user's cache our side is given: all but the artifacts."""


def main() -> None:
    """Take both sides in turn, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--images", type=int, help="this many images alone")
    parser.add_argument("--sweep", default="smoke", help="whose latency settings ours is run with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--alike",
        action="store_true",
        help="ours has OpenVINO compute in BF16, as it does by itself in theirs on a processor that has it",
    )
    parser.add_argument("--json", type=Path, help="also write every figure there")
    given = parser.parse_args()
    environments = Environments(MATRICES, Request({}).cache)
    for family in FAMILIES:
        environments.ensure(family)
    checkpoints.resolve(str(given.model), environments, Request({}).cache)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = copied(given.data, folder / "data", given.images)
        ours = partial(run_ours, folder, given.model.resolve(), data, given.imgsz, given.sweep, given.alike)
        theirs = partial(run_theirs, environments, folder, given.model.resolve(), data, given.imgsz)
        found = [both(number, ours, theirs) for number in range(given.repeats)]
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print_table(found)


def both(
    number: int, ours: Callable[[str], dict[str, Any]], theirs: Callable[[str], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """One of each, who is first changing from repeat to repeat."""
    sides = {"ours": ours, "theirs": theirs}
    order = sorted(sides, reverse=bool(number % 2))
    return {side: sides[side](f"{side}{number}") for side in order}


def copied(data: Path, folder: Path, limit: int | None) -> Path:
    """The evaluated images of a data file with their labels, in a folder into which either side may write."""
    found = DETECT.load(data, limit=limit)
    for image in found.images:
        target = folder / "images" / f"{image.id:06d}{image.path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image.path, target)
        labels = label_path(image.path)
        if labels.is_file():
            own = label_path(target)
            own.parent.mkdir(exist_ok=True)
            shutil.copy(labels, own)
    content = {"path": str(folder), "train": "images", "val": "images", "names": found.names}
    file = folder / "data.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return file


def run_ours(folder: Path, model: Path, data: Path, imgsz: int, sweep: str, alike: bool, name: str) -> dict[str, Any]:
    """Seconds with exports and without, the share of the latter inside timed inferences, and what was measured.

    `alike`: OpenVINO computes in BF16, not in FP32 as the others.
    """
    cache = folder / name
    cache.mkdir()
    for shared in _SHARED:
        (cache / shared).symlink_to(Request({}).cache / shared)
    command = [sys.executable, "-m", "bench", "run", "--model", str(model), "--data", str(data)]
    computing = ["fp32,bf16", "-k", "bf16 or not openvino"] if alike else ["fp32"]
    command += ["--options", ",".join(OPTIONS), "--precisions", *computing, "--imgsz", str(imgsz), "--threads", "1"]
    command += ["--targets", "cpu,arm-cpu", "--sweep", sweep]
    command += ["--results", str(folder / "results")]
    variables = os.environ | {CACHE_VARIABLE: str(cache)}
    cold = timed([*command, "--run-id", name], variables, ROOT)
    warm = timed([*command, "--run-id", f"{name}-warm"], variables, ROOT)
    run = folder / "results" / f"{name}-warm"
    cells = read_table(run, "cells")
    cells = cells[cells.status == "measured"].copy()
    inferring = float(read_table(run, "samples").latency_ms.sum()) / 1e3
    cells["half_width"] = np.log(cells.latency_ratio_high / cells.latency_ratio_low) / 2
    told = ["option", "map50_95", "latency_p50_ms", "half_width", "latency_launches", "latency_stop"]
    rows = cells[told].replace({np.nan: None}).to_dict("records")
    spent = read_table(run, "environment").query("scope == 'time'").set_index("key").value.astype(float).to_dict()
    return {"seconds": cold, "warm": warm, "share": inferring / warm, "rows": rows, "spent": spent}


def run_theirs(
    environments: Environments, folder: Path, model: Path, data: Path, imgsz: int, name: str
) -> dict[str, Any]:
    """Seconds and rows of Ultralytics' benchmark, in the environment that our exporters have too.

    Raises RuntimeError where a format has no mAP: what was not evaluated took no time.
    """
    place = folder / name
    place.mkdir()
    copy = shutil.copy(model, place)
    python = environments.ensure(FAMILIES[0]).python
    command = [str(python), "-s", "-P", str(THEIRS), str(copy), str(data), str(imgsz), *OPTIONS.values()]
    output = place / "output.txt"
    seconds = timed(command, with_threads(environments.variables(), 1), place, output, machine.last_cpus(1))
    said = output.read_text(encoding="utf-8")
    rows = json.loads(said.splitlines()[-1])
    if any(row["metrics/mAP50-95(B)"] == "-" for row in rows):
        raise RuntimeError(f"Ultralytics evaluated not every format:\n{said}")
    return {"seconds": seconds, "rows": rows}


def timed(
    command: Sequence[str],
    variables: Mapping[str, str],
    folder: Path,
    output: Path | None = None,
    cpus: Sequence[int] | None = None,
) -> float:
    """Wall time of a program in seconds.  Raises CalledProcessError where it fails."""

    def pin() -> None:
        if cpus is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cpus)

    with (output or Path(os.devnull)).open("wb") as sink:
        started = time.monotonic()
        subprocess.run(
            command, env=dict(variables), cwd=folder, stdout=sink, check=True,
            preexec_fn=pin,
        )  # fmt: skip
        return time.monotonic() - started


def print_table(found: Sequence[Mapping[str, Mapping[str, Any]]]) -> None:
    """Print what every repeat took, the medians, and what the last one measured."""
    print("| repeat | theirs s | ours s | ours / theirs | ours warm s | of that in timed inferences |")
    print("|---|---:|---:|---:|---:|---:|")
    lines = [
        (one["theirs"]["seconds"], one["ours"]["seconds"], one["ours"]["warm"], one["ours"]["share"]) for one in found
    ]
    medians = tuple(float(value) for value in np.median(np.array(lines), axis=0))
    for name, (theirs, ours, warm, share) in [*enumerate(lines, start=1), ("median", medians)]:
        print(f"| {name} | {theirs:.1f} | {ours:.1f} | {ours / theirs:.2f} | {warm:.1f} | {share:.0%} |")
    print()
    for row in found[-1]["ours"]["rows"]:
        print(json.dumps(row))
    for row in found[-1]["theirs"]["rows"]:
        print(json.dumps(row, ensure_ascii=False))
    print(json.dumps(found[-1]["ours"]["spent"]))


if __name__ == "__main__":
    main()
