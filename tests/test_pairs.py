"""Pairs of real guest processes, whose clock is their own: what is planted is found, and nothing else."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.environments.locked import Env
from bench.environments.pinned import PinnedEnvironments
from bench.grid import tolerances
from bench.grid.schema import Deadlines
from bench.measure.contest import Contest, Contests
from bench.measure.pairs import (
    BASE,
    CANDIDATE,
    Conditions,
    Side,
    condition,
    huge_pages_possible,
    parts,
    run_pair,
)
from bench.places import MATRICES
from bench.reasons import UsageError
from bench.stats.allocation import PAIRS_MIN, Noise, shares
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


def contest(tmp_path: Path, base: Side, candidate: Side, name: str = "cell") -> Contest:
    sides = {}
    for which, each in ((BASE, base), (CANDIDATE, candidate)):
        each.spec["options"]["launches"] = str(tmp_path / "launches")
        sides[which] = replace(each, variables={**each.variables, "HOME": str(tmp_path)})  # where it may write
    conditions = Conditions(X, [], 1, Deadlines(), tmp_path / "guests.log", inferences=8)
    pair = partial(run_pair, sides, conditions, random.Random(7))  # noqa: S311 - an order of turns
    return Contest(name, pair, {"latency": 0.01})


def compare(tmp_path: Path, base: Side, candidate: Side, pairs: int | None = 8, seconds: float = 120.0) -> Contest:
    one = contest(tmp_path, base, candidate)
    Contests([one], seconds, lambda *_place: None).run(pairs)
    return one


def test_a_planted_slowdown_is_seen_and_confirmed(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0), side("b", 10.5))
    assert outcome.change() is Change.REGRESSED
    assert outcome.confirmation() is not None
    assert np.exp(outcome.screen().found.value) == pytest.approx(1.05, abs=0.01)
    looks = {"screen": outcome.screened, "confirm": outcome.confirming}
    stored.write(tmp_path, {"cell": looks}, {"change": outcome.change()})
    table = pd.read_parquet(tmp_path / "pairs.parquet")
    assert len(table) == 8 * (len(outcome.screened) + len(outcome.confirming))
    assert set(table["first"]) == {BASE, CANDIDATE}, "who goes first is drawn"
    assert json.loads((tmp_path / stored.FACTS).read_text())["change"] == "regressed"


def test_the_same_on_both_sides_is_no_change_and_needs_no_second_look(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0, process=0.002), side("a", 10.0, process=0.002))
    assert outcome.change() is Change.OK
    assert not outcome.confirming


def test_too_much_noise_is_undecided_and_says_what_could_have_been_seen(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0, process=0.2), side("b", 10.0, process=0.2), pairs=6)
    assert outcome.change() is Change.UNDECIDED
    assert outcome.screen().visible > 0.1


def test_time_is_kept_to_and_what_it_was_too_short_for_is_undecided(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0, process=0.1), side("b", 10.0, process=0.1), pairs=None, seconds=1.0)
    assert 1 <= len(outcome.screened) < PAIRS_MIN
    assert outcome.seconds < 1.0 + 2 * outcome.cost
    assert outcome.change() is Change.UNDECIDED


def test_of_several_only_the_slower_one_is_confirmed(tmp_path: Path) -> None:
    slower = contest(tmp_path, side("a", 10.0), side("b", 10.6), "slower")
    same = contest(tmp_path, side("a", 10.0), side("b", 10.0), "same")
    order: list[str] = []
    Contests([slower, same], 40.0, lambda one, stage, _pairs: order.append(f"{stage} {one.name}")).run()
    assert slower.change() is Change.REGRESSED
    assert same.change() is not Change.REGRESSED
    assert not same.confirming
    first = order[: 2 * PAIRS_MIN]
    assert all(set(first[at : at + 2]) == {"screen slower", "screen same"} for at in range(0, len(first), 2)), "in turn"


def test_both_sides_run_under_the_same_condition(tmp_path: Path) -> None:
    huge = condition(huge=True)
    assert condition(huge=False) == {}
    one, other = (replace(side(name, 10.0), variables={"PATH": "/usr/bin:/bin", **huge}) for name in "ab")
    outcome = compare(tmp_path, one, other, pairs=6)
    launches = [pair.launches[name] for pair in outcome.screened for name in (BASE, CANDIDATE)]
    seen = {launch.attested["tunables"] for launch in launches}
    assert seen == {huge["GLIBC_TUNABLES"]}
    if huge_pages_possible():
        assert launches[0].huge_bytes > 0


def test_a_pair_loads_its_models_at_several_addresses(tmp_path: Path) -> None:
    told = tmp_path / "loads"
    moving = side("a", 0.0, adapter=ADAPTER.with_name("moving.py"))
    moving.spec["options"]["loads"] = str(told)
    moving = replace(moving, variables={**moving.variables, "HOME": str(tmp_path)})
    conditions = Conditions(X, [], 1, Deadlines(), tmp_path / "guests.log", inferences=33)
    turns = run_pair(dict.fromkeys((BASE, CANDIDATE), moving), conditions, random.Random(7))  # noqa: S311 - an order
    assert len(turns.base_ms) == len(turns.candidate_ms) == len(turns.first) == 33
    addresses: dict[str, list[str]] = {}
    for line in told.read_text().splitlines():
        process, address = line.split()
        addresses.setdefault(process, []).append(address)
    one, other = addresses.values()
    assert 2 <= len(one) == len(other) <= 4, "eight inferences after each load, at least"
    assert all(before != now for where in (one, other) for before, now in pairwise(where))


def test_inferences_are_split_evenly_over_loads() -> None:
    assert parts(33, 4) == [9, 8, 8, 8]
    assert parts(5, 1) == [5]


def test_what_another_process_holds_is_loaded_once(tmp_path: Path) -> None:
    outcome = compare(tmp_path, side("a", 10.0), side("b", 10.0), pairs=6)
    assert (tmp_path / "launches").stat().st_size == 2 * len(outcome.screened + outcome.confirming)


def test_a_guest_that_dies_is_told_with_its_side(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import os\ndef load(spec):\n    os._exit(3)\n", encoding="utf-8")
    outcome = compare(tmp_path, side("a", 10.0), side("b", 10.0, adapter=broken))
    assert outcome.problem is not None
    assert outcome.problem.side == CANDIDATE
    assert "exit code 3" in outcome.problem.text


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


def test_tolerances_have_reasons(tmp_path: Path) -> None:
    found = tolerances.load(MATRICES)
    assert {"latency", "map50_95", "size_bytes", "env_bytes"} <= found.keys()
    (tmp_path / "tolerances.toml").write_text("[latency]\nmargin = 2\nwhy = ''\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"tolerances\.toml: latency\.margin"):
        tolerances.load(tmp_path)


def test_time_goes_where_pairs_vary_and_cost_little() -> None:
    noises = {"quiet": Noise(0.004, 3.0), "loud": Noise(0.016, 3.0), "dear": Noise(0.016, 12.0)}
    found = shares(noises, 900.0)
    assert sum(noises[name].seconds * pairs for name, pairs in found.items()) == pytest.approx(900, rel=0.05)
    assert found["loud"] == pytest.approx(4 * found["quiet"], rel=0.05)
    assert found["loud"] == pytest.approx(2 * found["dear"], rel=0.05)
    assert set(shares(noises, 10.0).values()) == {PAIRS_MIN}, "nothing is decided by fewer"
