"""An interrupted sweep resumed, with real guests: no finished cell is measured twice, and what comes of it is the same.

Every option has a time window of its own here, as on a machine with little memory, so that some cells are finished when
the run is stopped; what each process measures is written down by `spying.py`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import test_resume
from running import bench
from sweeps import LATENCY_OF_SECONDS, matrices_with
from test_resume import assert_evaluated, command, stopped
from test_sweep import variables

from bench import store
from bench.measure import unscored
from bench.places import ROOT

data = test_resume.data  # the fixture: official annotations of the demo set

SPY = Path(__file__).parent / "spying.py"
ONE_A_WINDOW = "1e-6"
OPTIONS = ("onnx", "openvino", "torchscript")
IMAGES = 96
"""A shard and a half."""
SWEEP = f"""
description = "Of several windows: for the tests of what is gone on with."
imgsz = [160]
images = {IMAGES}
calibration_images = 8
options = {list(OPTIONS)}
precisions = ["fp32"]
targets = ["cpu"]
"""
SWEEP += LATENCY_OF_SECONDS


@dataclass(frozen=True)
class Said:
    """What a process has measured: `(instrument, cell)`, `(image, cell)` with - for / and the cells that took turns."""

    measured: list[tuple[str, str]]
    images: Counter[tuple[str, str]]
    turns: Counter[str]

    @classmethod
    def read(cls, file: Path) -> Said:
        lines = [line.split(" ", 2) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
        return cls(
            [(what, cell) for kind, what, cell in lines if kind == "measure"],
            Counter((what, cell) for kind, what, cell in lines if kind == "image"),
            Counter(cell for kind, _, cell in lines if kind == "turn"),
        )


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrices_with(SWEEP, tmp_path_factory.mktemp("matrices"))


def rows(run: Path) -> pd.DataFrame:
    return store.read_table(run, "cells").set_index("cell_id")


def of_finished(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table.reason_code.isin(("interrupted", "not_selected"))]


def finished(run: Path) -> pd.DataFrame:
    return of_finished(rows(run))


def folders(table: pd.DataFrame) -> set[str]:
    """Cells as their folders are called."""
    return {str(name).replace("/", "-") for name in table.index}


def ended(line: list[str]) -> tuple[int, str]:
    command_line = [sys.executable, str(SPY), *line]
    done = subprocess.run(
        command_line, cwd=ROOT, env=variables(), capture_output=True, text=True, check=False, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def test_no_finished_cell_is_measured_twice(matrices: Path, data: Path, tmp_path: Path) -> None:
    """Stopped five times: while a cell is characterised, twice among the images of a window, in the two after it."""
    run, logs = tmp_path / "r", [tmp_path / f"said-{process}" for process in range(7)]

    def line(log: Path) -> list[str]:
        how = "--run-id" if log == logs[0] else "--resume"
        return [str(log), ONE_A_WINDOW, *command(matrices, data, tmp_path, how, "r")]

    def characterised(log: Path) -> bool:
        return any(what == "parity" and "openvino" in cell for what, cell in Said.read(log).measured)

    def in_window(number: int, images: int) -> Callable[[Path], bool]:
        """Whether so many cells are finished, and one that is not was evaluated on so many images by the process."""

        def there(log: Path) -> bool:
            evaluated, done = Counter(cell for _, cell in Said.read(log).images), folders(finished(run))
            return len(done) == number and any(evaluated[cell] >= images for cell in evaluated.keys() - done)

        return there

    stops: list[tuple[Callable[[Path], bool], signal.Signals]] = [
        (characterised, signal.SIGKILL),
        (in_window(0, unscored.IMAGES + 6), signal.SIGINT),
        (in_window(0, 6), signal.SIGKILL),
        (in_window(2, 6), signal.SIGINT),
        (in_window(3, unscored.IMAGES + 6), signal.SIGKILL),
    ]
    left: list[pd.DataFrame] = []
    for log, (until, how) in zip(logs, stops, strict=False):
        stopped(line(log), run, partial(until, log), how, [str(SPY)])
        left.append(rows(run))
    code, told = ended(line(logs[5]))
    assert code == 0, told
    after, said = rows(run), [Said.read(log) for log in logs]
    for process, table in enumerate(left, start=1):
        # Whoever is finished stays as it is to the last column; PyTorch FP32 alone takes turns again, beside others.
        done = of_finished(table)
        pd.testing.assert_frame_equal(after.loc[done.index], done, check_dtype=False)  # null makes integers floats
        for later in said[process:]:
            assert not folders(done) & {cell for _, cell in later.images}
            assert all("pytorch" in cell for cell in later.turns.keys() & set(done.index))
        # What was characterised is not again either.
        known = table.index[table.status == "measured"]
        assert not {cell for later in said[process:] for _, cell in later.measured} & set(known)
    assert [len(of_finished(table)) for table in left] == [0, 0, 0, 2, 3]
    # No image twice, but for those that were in memory when the process was killed.
    images = sum((one.images for one in said), Counter[tuple[str, str]]())
    assert len(images) == 4 * IMAGES
    again = Counter(cell for (_, cell), times in images.items() for _ in range(times - 1))
    assert 6 <= max(again.values()) < unscored.IMAGES
    for process, (_, how) in enumerate(stops):
        if how is signal.SIGINT:
            assert not said[process].images.keys() & said[process + 1].images.keys()

    plain = bench(*command(matrices, data, tmp_path, "--run-id", "plain"))
    assert plain.code == 0, plain.said
    assert_evaluated(run, tmp_path / "plain")

    samples = store.read_table(run, "samples")
    assert samples.groupby(["window", "round"]).cell_id.nunique().eq(2).all()
    code, told = ended(line(logs[6]))
    assert code == 0, told
    assert Said.read(logs[6]) == Said([], Counter(), Counter())
    pd.testing.assert_frame_equal(rows(run), after)
    pd.testing.assert_frame_equal(store.read_table(run, "samples"), samples)
