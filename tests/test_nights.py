"""The gate's nights replayed on pairs whose noise is known: no more alarms than levels say, what was added is found."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.decide import nights, selfcheck
from bench.decide.nights import Series, Setting
from bench.grid import selfcheck as plans
from bench.grid import tolerances
from bench.grid.selfcheck import ITSELF, PLACEBO, PLANTED, POSITIVE, Night
from bench.grid.tolerances import TIMED
from bench.measure.pairs import LATENCY
from bench.places import MATRICES
from bench.reasons import UsageError
from bench.report import selfcheck as report
from bench.stats.nights import any_of, block_length, resampled, upper_bound
from bench.store import selfcheck as store

MARGINS = dict.fromkeys(TIMED, 0.1) | {LATENCY: 0.003}
CELLS = ["onnx-fp32-cpu-320", "onnx-int8-cpu-320", "pytorch-fp32-cpu-320"]
SD = {"onnx-fp32-cpu-320": 0.004, "pytorch-fp32-cpu-320": 0.02}


def drawn(n: int, sd: float, shift: float = 0.0, seed: int = 0, **fields: Any) -> pd.DataFrame:
    """Pairs whose latency is normal; the mean is exactly the shift, so that nothing is in them but what is meant."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sd, n)
    logs = {metric: rng.normal(0, 0.005, n) for metric in TIMED} | {LATENCY: noise - noise.mean() + shift}
    same = {"session": "s", "busy": False, "pages": "huge", "dose": 0.0, "base": "current", "candidate": "current"}
    return pd.DataFrame({**same, **fields, **logs, "number": range(n), "seconds": np.full(n, 4.0)})


def stored() -> pd.DataFrame:
    """Pairs as a self-check keeps them: two kinds, a dose that is what it says and one that is not, versions."""
    onnx, pytorch = (dict[str, Any](cell=cell, option=cell.partition("-")[0]) for cell in SD)
    parts = [drawn(80, SD[cell["cell"]], role=ITSELF, seed=1, **cell) for cell in (onnx, pytorch)]
    parts += [drawn(12, 0.004, math.log(1.05), role=PLANTED, seed=2, **onnx | {"dose": 0.05})]
    parts += [drawn(12, 0.004, math.log(1.04), role=PLANTED, seed=3, **onnx | {"dose": 0.1})]
    parts += [drawn(30, 0.004, 0.001, role=PLACEBO, seed=4, **onnx | {"base": "a==1.0", "candidate": "a==1.1"})]
    parts += [drawn(12, 0.004, 0.24, role=POSITIVE, seed=5, **onnx | {"base": "a==1.0", "candidate": "a==0.9"})]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def judged() -> selfcheck.Condition:
    (found,) = selfcheck.judge(stored(), CELLS, MARGINS, Night(minutes=6, nights=40))
    return found


def test_blocks_keep_what_neighbours_share_and_stay_within_a_session() -> None:
    assert block_length(64) == 4
    sessions = (np.arange(0, 40), np.arange(40, 64))
    positions = resampled(sessions, np.random.default_rng(0))
    taken = [next(positions) for _ in range(4000)]
    assert set(taken) == set(range(64))
    steps = np.diff(taken)
    # Of four steps in a row three lie within a block: one on, or back to the session's start.
    assert np.mean(np.isin(steps, (1, -39, -23))) == pytest.approx(0.75, abs=0.03)
    with pytest.raises(ValueError, match="needs observations"):
        next(resampled((np.array([], int),), np.random.default_rng(0)))


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59)), "none of n: 1 - alpha^(1/n)"
    assert upper_bound(0, 59) == pytest.approx(0.05, abs=0.001), "the rule of three"
    assert upper_bound(0.2, 20) == upper_bound(1, 20), "a part of an alarm counts as one"
    assert upper_bound(0, 0) == 1
    assert upper_bound(5, 5) == 1
    assert any_of(0.5, 2) == pytest.approx(0.75)
    assert any_of(1.0, 3) == 1


def test_a_night_of_equal_seed_is_the_same_night_and_a_slowdown_changes_nothing_else() -> None:
    rows = drawn(60, 0.004)
    cells = {name: Series.of(rows, equal=True) for name in "abc"}
    quiet = Setting(cells, cells["a"], MARGINS, 6, {})
    assert nights.night(quiet, 7) == nights.night(quiet, 7)
    assert nights.night(quiet, 7) != nights.night(quiet, 8)
    slow = nights.night(Setting(cells, cells["a"], MARGINS, 6, {"b": 0.2}), 7)
    assert slow.red == {"a": (), "b": (LATENCY,), "c": ()}
    spent = sum(4.0 * pairs for pairs in slow.pairs.values())
    assert spent <= 360, "the night's own clock ends it"


def test_a_change_of_the_whole_night_is_false_as_often_as_its_levels_say() -> None:
    """As slow as the margin allows is the worst case: 5 % pass the first look, of these 0.5 % the second."""
    rows = drawn(400, 0.01, math.log1p(0.003))
    cells = {name: Series.of(rows, equal=False) for name in "abcd"}
    control = Series.of(drawn(400, 0.01), equal=True)
    found = nights.nights(Setting(cells, control, {LATENCY: 0.003}, 10, {}), 40)
    red = sum(bool(metrics) for tally in found for metrics in tally.red.values())
    assert red <= 2, "160 comparisons at one in 4000, or a few times that after a longer look"


def test_alarms_power_doses_and_placebos_of_pairs_whose_truth_is_known(judged: selfcheck.Condition) -> None:
    assert judged.alarms == 0
    assert judged.cells == 3
    assert judged.borrowed == ("onnx-int8-cpu-320",), "it has no pairs, and draws from ONNX FP32's"
    quiet, noisy = judged.kinds
    assert quiet.found is not None
    assert noisy.found is not None
    assert 0.003 < quiet.found < noisy.found, "less noise, smaller slowdowns found; never below the margin"
    shares = [share for _, share in noisy.power]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert judged.comparisons == sum(int(80 / kind.per_night) for kind in judged.kinds)
    good, wrong = judged.doses
    assert (good.dose, good.holds) == (0.05, True)
    assert (wrong.dose, wrong.holds) == (0.1, False), "its pairs are 4 % slow, not 10"
    placebo, positive = judged.versions
    assert placebo.red == 0
    assert placebo.spread == judged.spread
    assert placebo.spread is not None
    assert 0.001 < placebo.spread < 0.006, "0.1 %, and 2.6 standard errors of as many pairs as a night takes"
    assert positive.red == 1
    assert positive.spread is None
    assert selfcheck.faults([judged]) == [
        "onnx-fp32-cpu-320: a planted slowdown of 10% was measured as 4.00%",
    ]


def test_findings_survive_being_stored_and_are_shown_alike(judged: selfcheck.Condition) -> None:
    facts = json.loads(json.dumps({"conditions": selfcheck.as_json([judged])}))
    assert selfcheck.from_json(facts["conditions"]) == [judged]
    sheets = report.sheets(facts)
    assert [sheet.title.partition(":")[0].partition(" (")[0] for sheet in sheets] == [
        "False alarms", "Power", "Slowdowns that were really planted", "Other versions of a package",
    ]  # fmt: skip
    for sheet in sheets:
        assert {len(row) for row in sheet.rows} == {len(sheet.header)}
    text = report.as_markdown(sheets)
    assert f"that of {100 * judged.bound:.0f} % on nights with any false alarm" in text
    assert "below 7.2 % (95 %)" in text, "the rule of three: none in 40 nights"


def test_what_is_recorded_is_written_into_the_documents(judged: selfcheck.Condition, tmp_path: Path) -> None:
    assert report.document(tmp_path) == "No self-check is recorded yet."
    facts = {
        "machine": {"cpu": "Some CPU", "cpu_cores_logical": "2"},
        "sweep": "smoke",
        "model": "demo",
        "conditions": selfcheck.as_json([judged]),
    }
    rows = [{str(name): value for name, value in row.items()} for row in stored().to_dict("records")]
    store.write(store.path_of(tmp_path, "some"), rows, facts)
    text = report.document(tmp_path)
    assert text.startswith(f"### Some CPU, 2 CPUs\n\n{len(rows)} pairs from s to s, of the sweep smoke")
    assert text.endswith(report.as_markdown(report.sheets(facts)))
    pairs, _ = store.read(store.path_of(tmp_path, "some"))
    (again,) = selfcheck.judge(pairs, CELLS, MARGINS, Night(minutes=6, nights=3))
    assert again.doses == judged.doses, "what was stored says what was judged"


def test_too_few_pairs_say_nothing() -> None:
    assert (
        selfcheck.judge(drawn(5, 0.01, role=ITSELF, cell="a", option="a"), ["a"], MARGINS, Night(minutes=1, nights=1))
        == []
    )
    assert report.sheets({}) == []


def test_the_plan_is_whole_and_a_wrong_one_is_told() -> None:
    plan = plans.load(MATRICES)
    assert {sides.role for sides in plan.sides} == {"placebo", "positive", "control"}
    assert plan.night.nights >= 300
    assert plan.accuracy.draws >= 100
    assert plan.size.growth > tolerances.load(MATRICES)["size_bytes"].margin, "what must be found lies above the margin"


def test_a_plan_with_a_dose_that_is_none_is_refused(tmp_path: Path) -> None:
    text = (MATRICES / plans.FILE).read_text(encoding="utf-8").replace("doses = [0.01", "doses = [0.0")
    (tmp_path / plans.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"selfcheck\.toml: doses\.0"):
        plans.load(tmp_path)
