"""A planted slowdown is what it says, by the guest's own clock, and the guest says that it is there."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.environments.locked import Env
from bench.grid.matrix import Cell, load
from bench.grid.schema import Deadlines
from bench.guest.planting import Planted
from bench.measure.pairs import BASE, CANDIDATE, Conditions, Side, run_pair
from bench.places import MATRICES
from bench.reasons import CellProblem
from bench.wall.artifacts import Artifact
from bench.wall.spec import load_spec
from bench.wall.worker import Worker

GUESTS = Path(__file__).parent / "guests"
X = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)


def spec(planted: float | None = None, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "manifest": {"output": {"layout": "channels_first", "units": "px", "shape": [1, 5, 4]}},
        "imgsz": 64,
        "options": {"products": 150, **options},
    }
    return given if planted is None else {**given, "planted": planted}


def guest(adapter: str = "working") -> Worker:
    return Worker(Path(sys.executable), GUESTS / f"{adapter}.py", variables={"PATH": "/usr/bin:/bin"})


def test_the_work_is_the_share_that_was_asked_for() -> None:
    planted = Planted(0.02, X)
    planted.work(50_000_000)  # how long a step takes here
    inferences = [5_000_000, 10_000_000, 9_000_000, 20_000_000] * 20
    spent = sum(planted.work(ns) for ns in inferences)
    # 80 doses of 0.1 to 0.4 ms: what one was too short or too long by, the next makes up for.
    assert spent == pytest.approx(0.02 * sum(inferences), rel=0.1)
    planted._step_ns = 5e6  # as where the processor was taken away in the middle of one
    assert sum(planted.work(ns) for ns in inferences) == pytest.approx(0.02 * sum(inferences), rel=0.1)
    with pytest.raises(ValueError, match="above 0"):
        Planted(0.0, X)


def test_a_real_guest_gets_slower_by_the_dose_and_answers_the_same() -> None:
    env = Env("family", Path(sys.executable), Path(sys.prefix), "0" * 64, 0)
    adapter, variables = GUESTS / "working.py", {"PATH": "/usr/bin:/bin"}
    sides = {
        BASE: Side("current", env, adapter, spec(), variables),
        CANDIDATE: Side("planted", env, adapter, spec(planted=0.5), variables),
    }
    conditions = Conditions(X, [], 1, Deadlines(), Path(os.devnull), inferences=24)
    shuffle = random.Random(0)  # noqa: S311 - an order of turns
    pairs = [run_pair(sides, conditions, shuffle) for _ in range(3)]
    # The two alternate on one machine; where that is busy, short work is interrupted less often than an inference.
    assert np.exp(np.mean([pair.log_ratio() for pair in pairs])) == pytest.approx(1.5, abs=0.3)
    assert pairs[0].launches[CANDIDATE].attested["planted"] == 0.5
    assert "planted" not in pairs[0].launches[BASE].attested


def test_what_is_inferred_stays_the_same() -> None:
    outputs = []
    for planted in (None, 0.5):
        with guest() as running:
            running.load(spec(planted))
            outputs.append(running.infer(X))
    plain, slowed = outputs
    assert np.array_equal(plain, slowed)


def test_nothing_is_planted_where_another_process_infers(tmp_path: Path) -> None:
    options = {"launches": str(tmp_path / "launches"), "seed": 0, "ms": 1.0, "process": 0.0}
    with guest("paced") as running, pytest.raises(CellProblem, match="in another process"):
        running.load(spec(0.1, **options))


def test_no_cell_of_a_run_asks_for_it(tmp_path: Path) -> None:
    matrix = load(MATRICES)
    cell: Cell = matrix.cells("model", matrix.sweep("smoke"))[0]
    assert "planted" not in load_spec(cell, Artifact("key", tmp_path, {}), None)
