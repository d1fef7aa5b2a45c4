"""The self-check as a command: pairs of real guests, kept whatever ends it; drops of mAP found as they should be."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from running import USERS_CACHE, bench

from bench import store
from bench.decide import drops, rule
from bench.decide.drops import Predictions
from bench.grid.request import CACHE_VARIABLE
from bench.measure.neighbours import busy
from bench.places import RECORDED, ROOT
from bench.reasons import StoreError
from bench.store import selfcheck as stored
from bench.tasks.detect.planting import worsened
from bench.tasks.detect.resampling import bootstrap_delta


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    """PyTorch FP32's of a recorded run, on 128 images."""
    run = RECORDED / "demo-320-all"
    rows = store.read_table(run, "detections")
    mine = rows[rows.cell_id == "yolo11n-demo/pytorch-fp32-cpu-320-b1-t1"].drop(columns="cell_id")
    return Predictions(mine, store.read_table(run, "ground_truth"))


def test_a_planted_drop_is_as_large_as_it_was_asked_to_be(predictions: Predictions) -> None:
    wanted = [0.01, 0.05]
    found = [
        -bootstrap_delta(rows, predictions.rows, predictions.truth, n=1).value
        for rows in worsened(predictions.rows, predictions.truth, wanted, seed=3)
    ]
    # A true positive of this set is worth about 0.001.
    assert found == pytest.approx(wanted, abs=0.002)
    with pytest.raises(ValueError, match="between 0 and the mAP"):
        worsened(predictions.rows, predictions.truth, [0.99], seed=0)


def test_large_drops_are_found_and_those_below_the_margin_are_not(predictions: Predictions) -> None:
    found = drops.judge(predictions, [0.003, 0.15], [32, 4096], 3, 0.005)
    assert [(one.images, one.drop, one.found) for one in found] == [(32, 0.003, 0.0), (32, 0.15, 1.0)]
    assert drops.needed(found, 0.15) == 32
    assert drops.needed(found, 0.003) is None


def test_other_cpus_are_busy_meanwhile_and_not_after() -> None:
    others = psutil.Process().children()  # of tests before this one
    with busy([0]):
        (child,) = [one for one in psutil.Process().children() if one not in others]
        before = child.cpu_times().user
        deadline = time.monotonic() + 30
        while child.cpu_times().user < before + 0.2:
            assert time.monotonic() < deadline, "it works all the time"
            time.sleep(0.05)
    assert not child.is_running()
    program = "from bench.measure.neighbours import busy\nwith busy([0]):\n    print('up', flush=True)\n    input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    child.wait(10)


def test_the_command_end_to_end(tmp_path: Path) -> None:
    asked = ["self-check", "--options", "onnx", "--results", tmp_path / "runs", "--draws", "0"]
    first = bench(*asked, "--minutes", "0.2", "--busy")
    assert first.code == 0, first.said
    (path,) = (tmp_path / "self-check").glob("*.parquet")
    pairs, facts = stored.read(path)
    assert len(pairs) >= 1
    assert set(pairs.option) == {"onnx"}
    assert facts["cells"] == ["onnx-fp32-cpu-320", "onnx-fp16-cpu-320", "onnx-int8-cpu-320"]
    recomputed = [np.median(np.log(c) - np.log(b)) for b, c in zip(pairs.base_ms, pairs.candidate_ms, strict=True)]
    assert pairs.latency.tolist() == pytest.approx(recomputed, abs=1e-6), "what was judged follows from what is kept"
    again = bench(*asked, "--minutes", "0.1")
    assert again.code == 0, again.said
    more, _ = stored.read(path)
    assert len(more) > len(pairs), "later pairs are added"
    assert more.session.nunique() == 2
    show = ["self-check", "--show", "--results", tmp_path / "runs"]
    shown = bench(*show)
    assert shown.code == 0
    assert path.name in shown.said
    assert "anew" not in shown.said
    kept, facts = stored.read(path)
    older = {name: value for name, value in facts["judged"].items() if name != "rule"}
    for judged, told in (
        (older, "of an older rule of the gate"),
        ({**older, "rule": "another"}, "of an older rule of the gate"),
        ({**facts["judged"], "margins": {}}, "of other margins"),
        ({**facts["judged"], "pairs": 1}, f"of 1 of the {len(kept)} pairs"),
        (None, "not judged yet"),
    ):
        stored.write(path, kept, facts | {"judged": judged})
        before = path.read_bytes()
        shown = bench(*show)
        assert told in shown.said
        assert "self-check --results" in shown.said
        assert "--minutes 0 --draws 0" in shown.said
        assert path.read_bytes() == before, "nothing is judged where something is shown"
    again = bench(*asked, "--minutes", "0")
    assert again.code == 0, again.said
    assert stored.read(path)[1]["judged"] == facts["judged"]
    assert "anew" not in bench(*show).said


NOT_OF_THE_RULE = {
    "bench.decide.operators",  # which are counted, not timed
    "bench.measure.pairs",  # whose pairs are stored
    "bench.stats.turns",  # of launches
}


def test_all_that_decides_is_in_the_rules_fingerprint() -> None:
    """A module that one of them comes to use is one of them, or it is said why not."""
    known = {module.__name__ for module in rule.MODULES}
    used = set()
    for module in rule.MODULES:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(sys.modules)
                used |= inside or {node.module}
    deciding = {name for name in used if name.startswith(("bench.decide.", "bench.measure.", "bench.stats."))}
    assert deciding - known == NOT_OF_THE_RULE
    assert rule.judged({"judged": {"rule": rule.fingerprint()}})
    for older in ({}, {"judged": None}, {"judged": {"pairs": 3}}, {"judged": {"rule": "another"}}):
        assert not rule.judged(older)


def test_ctrl_c_keeps_what_was_taken(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "self-check", "--options", "onnx", "--draws", "0", "--minutes", "5"]
    variables = os.environ | {CACHE_VARIABLE: str(USERS_CACHE)}
    with subprocess.Popen(
        [*command, "--results", str(tmp_path / "runs")], cwd=ROOT, env=variables, stdout=subprocess.PIPE
    ) as running:
        deadline = time.monotonic() + 240
        while not list((tmp_path / "self-check").glob("*.parquet")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"what was taken is in" in said
    (path,) = (tmp_path / "self-check").glob("*.parquet")
    assert len(stored.read(path)[0]) >= 1


def test_nothing_to_show_and_foreign_files_are_told(tmp_path: Path) -> None:
    done = bench("self-check", "--show", "--results", tmp_path / "runs")
    assert done.code == 2
    assert "without --show first" in done.said
    foreign = tmp_path / "foreign.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(foreign)
    with pytest.raises(StoreError, match="no self-check of version"):
        stored.read(foreign)
