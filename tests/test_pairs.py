"""Pairs of real guest processes, whose clock is their own: what is planted is found, and nothing else."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.environments.locked import Env
from bench.environments.pinned import PinnedEnvironments, RevisionEnvironments
from bench.grid import tolerances
from bench.grid.schema import Deadlines
from bench.measure.comparison import Comparison, Outcome, Plan
from bench.measure.pairs import BASE, CANDIDATE, Side, condition, huge_pages_possible
from bench.places import MATRICES
from bench.reasons import CellProblem, UsageError
from bench.stats.change import Change
from bench.store import pairs as stored

ADAPTER = Path(__file__).parent / "guests" / "paced.py"
X = np.zeros((1, 3, 32, 32), np.float32)


def side(label: str, ms: float, process: float = 0.004, adapter: Path = ADAPTER) -> Side:
    spec: dict[str, Any] = {
        "manifest": {"output": {"layout": "channels_first", "units": "px", "shape": [1, 5, 4]}},
        "imgsz": 32,
        "options": {"ms": ms, "process": process, "seed": 7},
    }
    env = Env("family", Path(sys.executable), Path(sys.prefix), "0" * 64, 0)
    return Side(label, env, adapter, spec, {"PATH": "/usr/bin:/bin"})


def compare(tmp_path: Path, base: Side, candidate: Side, **plan: Any) -> Outcome:
    for each in (base, candidate):
        each.spec["options"]["launches"] = str(tmp_path / "launches")
    comparison = Comparison(
        {BASE: base, CANDIDATE: candidate},
        X,
        Plan(**{"seconds": 120.0, "margin": 0.01, "inferences": 8, "pairs": 8, **plan}),
        cpus=[],
        threads=1,
        deadlines=Deadlines(),
        log=tmp_path / "guests.log",
        on_pair=lambda *_place: None,
    )
    return comparison.run()


def test_a_planted_slowdown_is_seen_and_confirmed(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0), side("b", 10.5))
    assert outcome.change is Change.REGRESSED
    assert outcome.confirmation is not None
    assert np.exp(outcome.screen.found.value) == pytest.approx(1.05, abs=0.01)
    stored.write(tmp_path, {"screen": outcome.screened, "confirm": outcome.confirming}, {"change": outcome.change})
    table = pd.read_parquet(tmp_path / "pairs.parquet")
    assert len(table) == 8 * (len(outcome.screened) + len(outcome.confirming))
    assert set(table["first"]) == {BASE, CANDIDATE}, "who goes first is drawn"
    assert json.loads((tmp_path / "ab.json").read_text())["change"] == "regressed"


def test_the_same_on_both_sides_is_no_change_and_needs_no_second_look(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0, process=0.002), side("a", 10.0, process=0.002))
    assert outcome.change is Change.OK
    assert not outcome.confirming


def test_too_much_noise_is_undecided_and_says_what_could_have_been_seen(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0, process=0.2), side("b", 10.0, process=0.2), pairs=6)
    assert outcome.change is Change.UNDECIDED
    assert outcome.screen.visible > 0.1


def test_the_number_of_pairs_is_kept_within_the_time(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0, process=0.1), side("b", 10.0, process=0.1), pairs=None, seconds=1.0)
    assert len(outcome.screened) == 6, "the pilot alone, when there is no time for more"


def test_both_sides_run_under_the_same_condition(tmp_path: Path) -> None:
    huge = condition(huge=True)
    assert condition(huge=False) == {}
    one, other = (replace(side(name, 10.0), variables={"PATH": "/usr/bin:/bin", **huge}) for name in "ab")
    outcome = compare(tmp_path, one, other, pairs=6)
    seen = {pair.attested[name]["tunables"] for pair in outcome.screened for name in (BASE, CANDIDATE)}
    assert seen == {huge["GLIBC_TUNABLES"]}
    if huge_pages_possible():
        assert outcome.screened[0].base_huge_bytes > 0


def test_a_guest_that_dies_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import os\ndef load(spec):\n    os._exit(3)\n", encoding="utf-8")
    with pytest.raises(CellProblem, match="exit code 3"):
        compare(tmp_path, side("a", 10.0), side("b", 10.0, adapter=broken))


def test_a_pin_changes_the_lock_and_holds_the_rest(tmp_path: Path) -> None:
    lock = (MATRICES / "envs" / "onnx.txt").read_text(encoding="utf-8").splitlines()
    (pinned,) = [line for line in lock if line.startswith("onnxruntime==")]
    other = PinnedEnvironments(MATRICES, tmp_path, ["onnxruntime==1.24.4"])
    text = other.lock_text("onnx").splitlines()
    assert "onnxruntime==1.24.4" in text
    assert pinned not in text
    same = {line for line in lock if line.startswith("numpy==")}
    assert same <= set(text)
    with pytest.raises(UsageError, match="holds none of torch"):
        PinnedEnvironments(MATRICES, tmp_path, ["torch==2.0"]).lock_text("onnx")
    with pytest.raises(UsageError, match="name==version"):
        PinnedEnvironments(MATRICES, tmp_path, ["onnxruntime>=1"])


def test_a_revision_gives_the_locks_of_then(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a package, a file nor a revision"):
        RevisionEnvironments(MATRICES, tmp_path, "no-such-revision")


def test_tolerances_have_reasons(tmp_path: Path) -> None:
    found = tolerances.load(MATRICES)
    assert {"latency", "map50_95", "size_bytes", "env_bytes"} <= found.keys()
    (tmp_path / "tolerances.toml").write_text("[latency]\nmargin = 2\nwhy = ''\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"tolerances\.toml: latency\.margin"):
        tolerances.load(tmp_path)
