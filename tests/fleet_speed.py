"""What workers gain: accuracy of four options by one process and by workers of this machine, in turn, when it is quiet.

    python -m tests.fleet_speed --repeats 5

Both sides have the same artifacts, exported before, and must find the same mAP.  What is compared is the time of the
measuring itself; that of the whole command, with Python's start, the cluster's and the report, is given beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.grid.request import CACHE_VARIABLE, Request
from bench.places import ROOT
from bench.store import read_table

OPTIONS = ("pytorch", "torchscript", "onnx", "openvino")
MEASURING = ("send", "environment", "export", "load", "accuracy")
"""Steps of a run that are this; the others are what comes before, and the report."""


@dataclass(frozen=True)
class Taken:
    """What a run took, in seconds: its measuring, the whole command; and the mAP of each cell."""

    measuring: float
    command: float
    scores: Mapping[str, float]


def main() -> None:
    """Take both sides in turn, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="default: the embedded one")
    parser.add_argument("--data", help="default: the embedded set")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write every figure there")
    given = parser.parse_args()
    what = ["--options", ",".join(OPTIONS), "--precisions", "fp32", "--targets", "cpu,arm-cpu", "--threads", "1"]
    what += ["--imgsz", str(given.imgsz)]
    what += [word for name in ("model", "data") if (value := getattr(given, name)) for word in (f"--{name}", value)]
    sides: dict[str, list[str]] = {"one": [], "workers": ["--cluster", f"local:{given.workers}"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "first", [*what, "--images", "1"])  # exports, and fills the page cache
        what += ["--images", str(given.images)]
        found = []
        for number in range(given.repeats):
            order = sorted(sides, reverse=bool(number % 2))
            taken = {side: run(folder, f"{side}{number}", [*what, *sides[side]]) for side in order}
            require_same(taken)
            found.append(taken)
    if given.json is not None:
        told = [{side: asdict(one) for side, one in taken.items()} for taken in found]
        given.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    print_table(found, given.workers)


def run(folder: Path, name: str, what: Sequence[str]) -> Taken:
    """Run the bench for accuracy alone.  Raises CalledProcessError where it fails."""
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        "-k",
        "accuracy",
        "--results",
        str(folder),
        "--run-id",
        name,
        *what,
    ]
    variables = os.environ | {CACHE_VARIABLE: str(Request({}).cache)}
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{' '.join(command)} ended with {done.returncode}")
    facts, cells = read_table(folder / name, "environment"), read_table(folder / name, "cells")
    spent = facts[facts.scope == "time"].set_index("key").value.astype(float)
    measured = cells[cells.status == "measured"].set_index("cell_id")
    scores = {str(name): float(value) for name, value in measured.map50_95.items()}
    return Taken(float(spent[spent.index.isin(MEASURING)].sum()), seconds, scores)


def require_same(taken: Mapping[str, Taken]) -> None:
    """Stop where the sides do not agree: what was not measured took no time."""
    one, workers = taken["one"].scores, taken["workers"].scores
    if len(one) != len(OPTIONS) or one != workers:
        sys.exit(f"the sides measured different things:\n{one}\n{workers}")


def print_table(found: Sequence[Mapping[str, Taken]], workers: int) -> None:
    """Print what every repeat took, and the medians."""
    print(f"| repeat | one process s | {workers} workers s | times as fast | one command s | with workers s | times |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    lines = []
    for one in found:
        alone, shared = one["one"], one["workers"]
        ratio, whole = alone.measuring / shared.measuring, alone.command / shared.command
        lines.append((alone.measuring, shared.measuring, ratio, alone.command, shared.command, whole))
    medians = tuple(float(value) for value in np.median(np.array(lines), axis=0))
    for name, (a, b, ratio, c, d, whole) in [*enumerate(lines, start=1), ("median", medians)]:
        print(f"| {name} | {a:.1f} | {b:.1f} | {ratio:.2f} | {c:.1f} | {d:.1f} | {whole:.2f} |")


if __name__ == "__main__":
    main()
