"""Rules that make verdicts of figures and statements' verdicts of findings, and the tables they are read from."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import store
from bench.cli.app import main
from bench.decide.claims import evaluate
from bench.decide.claims import judge as judgements
from bench.decide.claims.estimates import over_runs, quantity, quotient, time_ratio
from bench.decide.claims.registry import load_document_facts
from bench.decide.claims.statements import Claim
from bench.decide.claims.synthetic import Results, cell, paced, reference, results
from bench.decide.claims.tables import load, machine_name
from bench.decide.claims.verdicts import (
    Estimate,
    Finding,
    Outcome,
    Side,
    Verdict,
    chance,
    judge,
)
from bench.decide.claims.whole import combine, confirmed, over_checks, over_scopes, together
from bench.grid import matrix
from bench.places import MATRICES, ROOT
from bench.reasons import UsageError
from bench.words.text import Text

S, R, N, U, M = (
    Verdict.SUPPORTED,
    Verdict.REFUTED,
    Verdict.INCONCLUSIVE,
    Verdict.UNTESTED_HERE,
    Verdict.MIXED,
)
WORDS = Text(en="Words.", zh="文字。")
RUN = ROOT / "results" / "reference" / "coco128-640-cpu"


@pytest.mark.parametrize(
    ("low", "high", "side", "verdict"),
    [
        (1.1, 1.3, "above", S), (0.7, 0.9, "above", R), (0.9, 1.1, "above", N), (1.0, 1.0, "above", R),
        (1.0, 1.0, "at_least", S), (0.9, 1.0, "at_least", N), (1.1, 1.3, "below", R), (1.0, 1.0, "at_most", S),
        (1.0, 1.0, "below", R), (None, None, "above", N),
    ],
)  # fmt: skip
def test_an_interval_decides_only_when_it_lies_on_one_side(
    low: float | None, high: float | None, side: Side, verdict: Verdict
) -> None:
    assert judge(Estimate(1.0, low, high), 1.0, side) is verdict


@pytest.mark.parametrize(
    ("found", "verdict"),
    [([S, N], S), ([R, N], R), ([S, R, N], M), ([S, U], S), ([N, U], N), ([U, U], U), ([], N)],
)
def test_places_that_are_open_do_not_undo_what_others_decide(found: list[Verdict], verdict: Verdict) -> None:
    for order in itertools.permutations(found):
        assert over_scopes([Finding(one, WORDS) for one in order]) is verdict


@pytest.mark.parametrize(
    ("found", "verdict"),
    [([S, S], S), ([S, R], M), ([S, N], N), ([S, U], U), ([R, U], R), ([N, U], N), ([M, S], M)],
)
def test_a_statement_is_not_confirmed_by_half_of_it(found: list[Verdict], verdict: Verdict) -> None:
    for order in itertools.permutations(found):
        assert over_checks(order) is verdict


def test_a_combined_finding_shows_what_decided_and_lists_the_rest() -> None:
    fast = Finding(S, Text(en="Fast.", zh="快。"), "here", "one", 2.0, 1.9, 2.1, 1.0, "x", ("a",))
    slow = Finding(R, Text(en="Slow.", zh="慢。"), "there", "two", 0.5, 0.4, 0.6, 1.0, "x", ("b",))
    whole = combine([Outcome(WORDS, M, (fast, slow))])
    assert (whole.verdict, whole.value, whole.machine, whole.rows) == (M, 0.5, "one; two", ("a", "b"))
    assert whole.reason.en == "Findings: refuted 1; supported 1. (two · there) Slow. (one · here) Fast."
    assert combine([Outcome(WORDS, S, (fast,))]).reason.en == "Fast."


def test_a_quotient_is_wider_than_either_part_and_its_inverse_inverts_it() -> None:
    one, other = Estimate(2.0, 1.8, 2.3), Estimate(1.0, 0.95, 1.1)
    forward, backward = quotient(one, other), quotient(other, one)
    assert forward.low is not None
    assert forward.high is not None
    assert forward.low < 1.8
    assert forward.high > 2.3
    assert (backward.low, backward.high) == pytest.approx((1 / forward.high, 1 / forward.low))
    same = quotient(one, Estimate(1.0, 1.0, 1.0))
    assert same == Estimate(2.0, same.low, same.high)
    assert (same.low, same.high) == pytest.approx((1.8, 2.3))
    assert quotient(one, Estimate(1.0, None, None)).low is None


def test_runs_together_are_as_wide_as_their_extremes() -> None:
    runs = [Estimate(1.9, 1.8, 2.0, ("a",)), Estimate(2.3, 2.2, 2.4, ("b",)), Estimate(9.0, None, None, ("c",))]
    together = over_runs(runs)
    assert (together.low, together.high, together.rows) == (1.8, 2.4, ("a", "b"))
    assert together.value == pytest.approx(2.1)


@pytest.mark.parametrize(
    ("estimate", "threshold", "expected"),
    [
        # Normal: the interval's half is 1.96 standard errors, here of logarithms; 2.576 of them have a chance of 1 %.
        (Estimate(1.5, 1.5 * math.exp(-0.196), 1.5 * math.exp(0.196), freedom=math.inf), 1.5 * math.exp(-0.2576), 0.01),
        # Student's t: 2.776 for four degrees of freedom at 95 %, 4.604 at 99 %; on the side of the threshold.
        (Estimate(2.0, 2.0 * math.exp(-0.1), 2.0 * math.exp(0.02776), freedom=4), 2.0 * math.exp(0.04604), 0.01),
        # Differences may be below zero: no logarithms.
        (Estimate(-0.02, -0.0396, -0.0004, freedom=math.inf), 0.0, 0.0455),
        (Estimate(2.0, 1.8, 2.2, freedom=7), 2.0, 1.0),
        (Estimate(2.0, 2.0, 2.0), 1.0, None),
        (Estimate(2.0, 1.0, 4.0), 1.5, None),
    ],
)
def test_a_chance_follows_from_the_interval(estimate: Estimate, threshold: float, expected: float | None) -> None:
    found = chance(estimate, threshold)
    assert found == (None if expected is None else pytest.approx(expected, rel=2e-3))


def test_a_chance_is_five_per_cent_where_the_interval_ends() -> None:
    estimate = Estimate(1.3, 1.1, 1.6, freedom=3)
    assert chance(estimate, 1.1) == pytest.approx(0.05)
    assert chance(estimate, 1.6) == pytest.approx(0.05)


def test_all_of_a_statement_s_findings_together_decide() -> None:
    def finding(verdict: Verdict, known: float | None) -> Finding:
        return Finding(verdict, Text(en="Said.", zh="说明。"), chance=known)

    # Holm: 0.01 x 4, 0.02 x 3, 0.02 x 3 again (the third is 0.025 x 2), 0.6; what is exact stands aside.
    given = [[finding(S, 0.01), finding(R, 0.02)], [finding(S, 0.025), finding(N, 0.6), finding(S, None)]]
    kept = confirmed(given)
    assert [[one.verdict for one in group] for group in kept] == [[S, N], [N, N, S]]
    assert kept[0][1].reason.en == "Said. Not decided: 4 findings are looked at together (Holm)."
    assert kept[1][1] == given[1][1]
    assert confirmed([[finding(S, 0.04)]])[0][0].verdict is S, "one alone needs no allowance"


def test_what_needs_every_part_takes_the_largest_chance_and_what_any_part_does_takes_the_least_of_several() -> None:
    assert together([(S, 0.01), (S, 0.03)]) == (S, 0.03)
    verdict, known = together([(R, 0.01), (S, 0.001), (R, 0.2)])
    assert (verdict, known) == (R, 0.03)
    assert together([(N, 0.3), (S, 0.01)]) == (N, 0.3)
    assert together([(S, None)]) == (S, None)


def test_a_statement_about_many_places_needs_more_than_one_narrow_one() -> None:
    """Twenty places of which one passes by a little: alone it would decide, among twenty it is luck."""
    rows = [
        row for n in range(20) for row in (reference(batch=n + 1), cell("onnx", ratio=(1.0, 0.9, 1.11), batch=n + 1))
    ]
    rows[1] = cell("onnx", ratio=(1.1, 1.005, 1.204))
    claim = CLAIM.model_copy(update={"checks": CLAIM.checks[:1]})
    (judged,) = evaluate.evaluate([claim], results(*rows).tables())
    assert judged.verdict.verdict is N
    (alone,) = evaluate.evaluate([claim], results(*rows[:2]).tables())
    assert alone.verdict.verdict is S


def test_quantities_take_the_interval_of_their_launches() -> None:
    tables = results(reference()).tables()

    def taken(**columns: object) -> Estimate | None:
        row = SimpleNamespace(run_id="r", cell_id="c", started=None, latency_launches=8, load_ms=100.0, **columns)
        return quantity(tables, row, "load_ms")

    assert taken() == Estimate(100.0, 50.0, 200.0, ("r/c",), None)
    assert taken(load_ms_low=math.nan, load_ms_high=math.nan) == taken()
    assert taken(load_ms_low=95.0, load_ms_high=108.0) == Estimate(100.0, 95.0, 108.0, ("r/c",), None, 7)


def test_cells_of_two_windows_are_compared_through_the_reference_they_shared() -> None:
    """PyTorch was slower in the second window by half; so were both cells, and their ratio is that of their ratios."""
    timed = results(paced("pytorch", 80), paced("onnx", 40), cell("openvino", ratio=(2.0, 1.9, 2.1)))
    second = [(table, {**columns, "window": 1}) for table, columns in paced("openvino", 60)[1:]]
    tables = Results((*timed.rows, *second)).tables()
    by_option = {row.option: row for row in tables.cells}
    found = time_ratio(tables, by_option["openvino"], by_option["onnx"])
    assert found is not None
    assert found.value == pytest.approx(1.0)


CLAIM = Claim.model_validate(
    {
        "id": "onnx.performance", "option": "onnx", "aspect": "performance", "section": "ONNX", "line": 1,
        "quote": "-", "english": "-", "reading": WORDS, "supports": WORDS, "refutes": WORDS,
        "parts": [{"id": "all", "says": WORDS}],
        "checks": [
            {"check": "faster_than", "kind": "measured", "because": WORDS, "threshold": 1.0},
            {"check": "smaller_than", "kind": "measured", "because": WORDS, "quantity": "size_bytes", "threshold": 3.0},
        ],
    }
)  # fmt: skip
ROWS = (
    reference(size_bytes=100), cell("onnx", ratio=(2.0, 1.9, 2.1), size_bytes=200),
    cell("onnx", "int8", ratio=(0.8, 0.7, 0.9), size_bytes=50), cell("openvino", ratio=(1.9, 1.8, 2.0)),
    reference(run_id="second", size_bytes=100), cell("onnx", run_id="second", ratio=(2.1, 1.9, 2.3), size_bytes=210),
)  # fmt: skip


@settings(deadline=None, max_examples=8)
@given(st.permutations(ROWS))
def test_the_order_of_rows_changes_no_verdict(rows: list[tuple[str, dict[str, object]]]) -> None:
    (expected,) = evaluate.evaluate([CLAIM], Results(ROWS).tables())
    (judged,) = evaluate.evaluate([CLAIM], Results(tuple(rows)).tables())
    assert judged == expected
    assert judged.verdict.verdict is M


def test_rows_of_a_claim_are_its_verdict_and_then_its_findings() -> None:
    judged = evaluate.evaluate([CLAIM], Results(ROWS[:2]).tables())
    whole, fast, small = evaluate.rows(judged, "hash")
    assert (whole["check"], whole["scope"], whole["verdict"], whole["kind"]) == ("", "", "supported", "measured")
    assert (fast["check"], fast["kind"], fast["part"], fast["unit"]) == ("faster_than", "measured", "", "x")
    assert fast["low"] == pytest.approx(1.9)
    both = [f"synthetic/model/{option}-fp32-cpu-640-b1-t1" for option in ("pytorch", "onnx")]
    assert json.loads(fast["evidence"]) == both
    assert fast["date"] == datetime.date(2026, 1, 1)
    assert (small["check"], small["kind"], small["value"]) == ("smaller_than", "measured", 2.0)


def test_a_claim_whose_words_are_gone_is_stale_and_one_without_a_check_is_not_measurable() -> None:
    opinion = CLAIM.model_copy(update={"id": "onnx.community", "checks": (), "parts": (), "not_measurable": WORDS})
    judged = evaluate.evaluate([CLAIM, opinion], Results(ROWS).tables(), {"onnx.performance"})
    assert [one.verdict.verdict for one in judged] == [Verdict.STALE, Verdict.NOT_MEASURABLE]
    assert evaluate.counts(judged)[Verdict.STALE] == 1


def test_a_claim_about_some_machines_is_untested_on_others() -> None:
    check = {
        "check": "faster_than", "kind": "measured", "because": WORDS, "threshold": 1.0, "scope": {"machines": ["Xeon"]},
    }  # fmt: skip
    data = CLAIM.model_dump(exclude={"checks"}) | {"checks": [check], "needs": WORDS}
    (judged,) = evaluate.evaluate([Claim.model_validate(data)], Results(ROWS).tables())
    assert judged.verdict.verdict is U


def test_the_stored_run_gives_the_same_table_byte_for_byte(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        folder = tmp_path / name
        for table in ("cells", "samples", "environment"):
            frame = store.read_table(RUN, table)
            frame = frame if name == "one" else frame.iloc[::-1]
            folder.mkdir(exist_ok=True)
            rows = frame.astype(object).where(frame.notna(), None)  # a whole number that is missing reads as NaN
            store.write_table(folder, table, rows.to_dict("records"))
        judgement = judgements.judge([folder], MATRICES)
        judgements.store(judgement, folder)
        written.append((folder / "claims.parquet").read_bytes())
        assert {one.origin for one in judgement.judged} == {"measured"}
        assert {one.origin for one in judgement.published} == {"published"}
    assert written[0] == written[1]
    frame = store.read_table(tmp_path / "one", "claims")
    assert set(frame.verdict) <= set(Verdict)
    assert frame[frame.scope == ""].groupby(["claim_id", "origin"]).size().max() == 1
    assert ((frame.scope == "") == (frame.check == "")).all()
    assert frame.reason.str.len().min() > 0
    assert frame.reason_zh.str.len().min() > 0


def test_loading_names_what_is_wrong(tmp_path: Path) -> None:
    grid = matrix.load()
    with pytest.raises(UsageError, match="no run given"):
        load([], grid)
    same = {"run_id": "same", "cell_id": "c", "imgsz": 320, "batch": 1, "threads": 1}
    for name in ("one", "two"):
        for table, rows in (("cells", [same]), ("environment", [])):
            store.write_table(tmp_path / name, table, rows)
    with pytest.raises(UsageError, match="name each run once"):
        load([tmp_path / "one", tmp_path / "two"], grid)
    with pytest.raises(store.StoreError, match="cannot read"):
        load([tmp_path / "none"], grid)


OLD_FACTS = {"cpu": "AMD EPYC", "system": "Linux-6.1-x86_64"}
FACTS = OLD_FACTS | {"cpu_cores_logical": "64", "memory_bytes": "540123456789"}
GPU = {"accelerators": "GPU 0: NVIDIA H100, driver 570.86.15"}


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({}, "unknown processor, unknown system"),
        (OLD_FACTS, "AMD EPYC, Linux"),
        (FACTS, "AMD EPYC, 64 CPUs, 540 GB, Linux"),
        (FACTS | {"cpu_cores_logical": "1", "memory_bytes": "8000000000"}, "AMD EPYC, 1 CPU, 8 GB, Linux"),
        (FACTS | GPU, "AMD EPYC, 64 CPUs, 540 GB, GPU 0: NVIDIA H100, driver 570.86.15, Linux"),
    ],
)
def test_a_machine_is_named_by_what_tells_it_from_others(facts: dict[str, str], name: str) -> None:
    rows = [("machine", key, value) for key, value in facts.items()]
    assert machine_name(pd.DataFrame(rows, columns=["scope", "key", "value"])) == name


def test_a_statement_about_processors_is_not_decided_by_a_device() -> None:
    tables = results(reference(machine="AMD EPYC, 8 CPUs, 32 GB, Intel GPU, Linux")).tables()
    assert tables.on(["AMD"]).rows
    assert not tables.on(["Intel"]).rows


def test_only_measured_rows_are_cells_and_only_reached_targets_are_present() -> None:
    tables = results(
        reference(), cell("onnx", target="cuda", status="skipped", reason_code="target_absent"),
        cell("onnx", target="arm-cpu", status="failed", reason_code="export_failed"),
        cell("onnx", target="intel-gpu", status="failed", reason_code="crashed"),
    ).tables()  # fmt: skip
    assert [row.option for row in tables.cells] == ["pytorch"]
    assert tables.present == {"cpu", "intel-gpu"}


def test_the_command_judges_a_run_and_tells_what_the_document_no_longer_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(RUN, folder, ignore=shutil.ignore_patterns("*.html", "claims.parquet"))
    guide = tmp_path / "guide.md"
    facts = load_document_facts()
    option, aspect = facts.options["onnx"], facts.aspects["performance"]
    guide.write_text(f"## 部署\n\n### {option}\n\n- **{aspect}**：现在说的是另一回事。\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["claims", str(folder), "--document", str(guide), "--lang", "zh"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "已过期" in printed
    assert "别处已公布的数据" in printed
    frame = store.read_table(folder, "claims")
    whole = frame[(frame.check == "") & (frame.origin == "measured")].set_index("claim_id")
    assert whole.verdict["onnx.performance"] == "stale"
    assert set(frame.document_sha256) == {hashlib.sha256(guide.read_bytes()).hexdigest()}
    with pytest.raises(SystemExit) as ended:
        main(["claims", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "no run" in capsys.readouterr().err
