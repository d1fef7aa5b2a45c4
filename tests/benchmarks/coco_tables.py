"""Tables of COCO's size: what writing and reading the predictions of many cells takes, `nox -s coco-tables`.

Every number of cells has a process of its own, so that its peak of memory is its own.  Predictions are invented: as
many an image as YOLO11n gives at confidence 0.001, and those of half of the cells are those of the first, as they are
of formats that compute alike.  What writes and reads them is what a run and its readers call.  Exit code 1 where a
process held more than `MOST_BYTES`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.grid import matrix
from bench.store.reading import optional
from bench.store.tables import DETECTIONS, read_table
from bench.store.writing import RunStore

IMAGES, AN_IMAGE, CLASSES = 5000, 172, 80
CELLS = (10, 25, 50)
MOST_BYTES = 2 * 2**30
TABLE = "detections"
STEPS = {
    "add": "a part for every cell, as it is measured",
    "join": "the parts made one table, image by image",
    "image": "what every cell found in one image, for the report",
    "pair": "two cells, for a comparison",
    "all": "the whole table",
}


def predictions(cell: int, images: int) -> pa.Table:
    """Rows of a cell: boxes of everywhere, best first in each image."""
    draw = np.random.default_rng(0 if cell % 2 else cell)
    rows = images * AN_IMAGE
    scores = -np.sort(-(draw.random((images, AN_IMAGE)) ** 6), axis=1)
    columns = {
        "cell_id": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [name_of(cell)]),
        "image_id": np.repeat(np.arange(images, dtype=np.int32), AN_IMAGE),
        "category_id": draw.integers(0, CLASSES, rows).astype(np.int16),
        "score": (np.round(scores.ravel() * 2**16) / 2**16).astype(np.float32),
        **{side: (np.round(draw.uniform(0, 600, rows) * 32) / 32).astype(np.float32) for side in "xywh"},
        "matched": (draw.random(rows) < 0.03).astype(np.uint16) * np.uint16(1023),
        "ignored": np.zeros(rows, np.uint16),
    }
    return pa.table(columns).cast(DETECTIONS)


def name_of(cell: int) -> str:
    """Id of a cell, as long as they are."""
    return f"yolo11n/option{cell:03d}-fp32-cpu-640-b1-t1"


def measure(cells: int, images: int, folder: Path) -> dict[str, float]:
    """Seconds of each step, the most bytes that this process had held by its end, and those of the table."""
    found: dict[str, float] = dict.fromkeys(STEPS, 0.0)
    peaks: dict[str, int] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        found[step] += time.perf_counter() - started
        peaks[step] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    read = matrix.load()
    first = read.cells("yolo11n", read.sweep("smoke"))[0]
    store = RunStore(folder, "coco", [first], {first.cell_id: first.cell_id})
    for cell in range(cells):
        rows = predictions(cell, images)
        with timed("add"):
            store.add_predictions(TABLE, rows)
    with timed("join"):
        store.arrange_predictions()
    with timed("image"):
        assert len(optional(folder, TABLE, {"image_id": [images // 2]})) == cells * AN_IMAGE
    with timed("pair"):
        assert len(read_table(folder, TABLE, {"cell_id": [name_of(0), name_of(cells - 1)]})) == 2 * images * AN_IMAGE
    with timed("all"):
        assert len(read_table(folder, TABLE)) == cells * images * AN_IMAGE
    file_bytes = (folder / f"{TABLE}.parquet").stat().st_size
    return {**found, **{f"peak at {step}": held for step, held in peaks.items()}, "file_bytes": file_bytes}


def main(arguments: list[str]) -> int:
    """Print a row for every number of cells; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write and read tables of COCO's size.")
    parser.add_argument("cells", nargs="*", type=int, default=list(CELLS), help="numbers of cells, of two at least")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"images of every cell (default: {IMAGES})")
    parser.add_argument("--here", action="store_true", help="measure in this process, and print JSON")
    given = parser.parse_args(arguments)
    if given.here:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(given.cells[0], given.images, Path(folder))))
        return 0
    for step, what in STEPS.items():
        print(f"{step:>6}: {what}, s")
    print("seconds, and the most MB that were held by the end of a step")
    print("cells", *(f"{step:>14}" for step in STEPS), "  file MB")
    most = 0.0
    for cells in given.cells:
        command = [sys.executable, __file__, str(cells), "--images", str(given.images), "--here"]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        steps = (f"{found[step]:6.2f} {found[f'peak at {step}'] / 1e6:7.0f}" for step in STEPS)
        print(f"{cells:5d}", *steps, f"{found['file_bytes'] / 1e6:9.1f}", flush=True)
        most = max(most, *(found[f"peak at {step}"] for step in STEPS))
    return int(most > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
