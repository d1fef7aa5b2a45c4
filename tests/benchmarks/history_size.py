"""A history of many runs: seconds and memory of merging them, and of the site with it; `nox -s history-size`.

The runs are synthetic (tests/synthetic.py): a recorded run of results/reference with its name, times and machine
replaced and noise put in, eight machines, at least 5,000 samples each.  Every step has a process of its own, so that
its peak of memory is its own.  Exit code 1 where 200 runs took longer, or more memory, than they may.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

MACHINES, SAMPLES = 8, 5_000
SIZES = (200, 2000)
MOST_SECONDS, MOST_BYTES = {"merge": 60.0, "site": 60.0}, 2 * 2**30
"""Of 200 runs; the memory is that of merging any number."""


def make(folder: Path, runs: int) -> None:
    """Write the runs: night after night of each machine."""
    from synthetic import Fleet, Source

    fleet = Fleet(Source.of(samples=SAMPLES), machines=MACHINES)
    for number in range(runs):
        fleet.write(folder / "runs", 1 + number // MACHINES, number % MACHINES)


def merge(folder: Path) -> dict[str, int]:
    """Merge them, and count what the history then holds."""
    from bench.history import merging, reading

    merging.add(folder / "history", [folder / "runs"])
    with reading.opened(folder / "history") as base:
        counts = {name: base.execute(f"select count(*) from {name}").fetchall() for name in ("runs", "samples")}
    found = {name: rows[0][0] for name, rows in counts.items()}
    return {**found, "files": sum(1 for _ in (folder / "history").rglob("*.parquet"))}


def write_site(folder: Path) -> dict[str, int]:
    """Write the site of a recorded run with the history."""
    from bench import site
    from bench.places import RECORDED

    site.build([RECORDED / "coco128-640-cpu"], folder / "site", history=folder / "history")
    pages = [path for path in (folder / "site").rglob("*") if path.is_file()]
    return {"pages": len(pages), "megabytes": sum(path.stat().st_size for path in pages) // 10**6}


def step(name: str, folder: Path, runs: int) -> None:
    """Take a step in this process, and print what it took as JSON."""
    started = time.perf_counter()
    if name == "make":
        make(folder, runs)
    found = {"merge": merge, "site": write_site}[name](folder) if name != "make" else {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({"seconds": seconds, "megabytes_held": peak // 2**20, **found}))


def main() -> int:
    """Print a line per step and number of runs; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=int, default=SIZES)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        step(asked.step, asked.folder, asked.runs[0])
        return 0
    too_much = False
    for runs in asked.runs:
        with tempfile.TemporaryDirectory() as name:
            for one in ("make", "merge", "site"):
                command = [sys.executable, str(HERE), str(runs), "--step", one, "--folder", name]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found = json.loads(done.stdout)
                told = "  ".join(f"{key} {value}" for key, value in found.items())
                print(f"{runs:5d} runs  {one:6s}  {told}", flush=True)
                slow = runs <= SIZES[0] and found["seconds"] > MOST_SECONDS.get(one, float("inf"))
                too_much |= slow or (one == "merge" and found["megabytes_held"] * 2**20 > MOST_BYTES)
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
