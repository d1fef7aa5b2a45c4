"""Every registered check, on results that support, refute and leave open what it decides."""

from __future__ import annotations

import dataclasses

import pytest

from bench.decide.claims import checks as _registered  # noqa: F401 - registers every check
from bench.decide.claims import gate
from bench.decide.claims.gate import CHECKS, GateError, Registered
from bench.decide.claims.registry import parameters
from bench.decide.claims.statements import Parameters
from bench.decide.claims.synthetic import Results, cell, fact, probe, reference, results, timed
from bench.decide.claims.verdicts import Finding, Verdict
from bench.decide.claims.whole import over_scopes
from bench.words.locale import LANGUAGES, texts

NAMES = {
    "faster_than", "not_slower_than", "ranks_first", "some_option_faster", "depends_on_runtime", "steady", "scales",
    "speedup_on_target", "smaller_than", "ranks_smallest", "accuracy_kept", "opened_by", "wheels_for",
    "wheels_only_for", "converts", "refused_elsewhere", "runs_on", "operators_covered", "released_recently",
    "releases_per_year", "runs_without_python", "no_network", "data_only", "sandboxed", "enumerates",
    "uses_instructions", "latency_at_most", "served",
}  # fmt: skip


def ask(check: Registered, rows: Results, *, reverse: bool = False) -> list[Finding]:
    claim = check.example_claim()
    return check.function(rows.tables(reverse=reverse), claim, parameters(claim.checks[0], check.parameters))


def test_every_check_of_the_vocabulary_is_there_and_the_site_has_a_name_for_each() -> None:
    assert set(CHECKS) == NAMES
    for language in LANGUAGES:
        named = {key.removeprefix("check.") for key in texts("site", language).strings if key.startswith("check.")}
        assert named >= NAMES, language


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize(
    ("example", "verdict"),
    [("supports", Verdict.SUPPORTED), ("refutes", Verdict.REFUTED), ("wide", Verdict.INCONCLUSIVE)],
)
def test_a_check_says_yes_no_and_neither(name: str, example: str, verdict: Verdict) -> None:
    check = CHECKS[name]
    findings = ask(check, getattr(check, example))
    assert over_scopes(findings) is verdict, findings
    for finding in findings:
        assert finding.reason.en
        assert finding.reason.zh
        assert finding.rows or finding.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_order_of_rows_changes_nothing(name: str) -> None:
    check = CHECKS[name]
    for rows in (check.supports, check.refutes, check.wide):
        assert ask(check, rows) == ask(check, rows, reverse=True)


@pytest.mark.parametrize("name", ["faster_than", "ranks_first", "some_option_faster", "depends_on_runtime"])
def test_what_was_not_measured_or_not_timed_never_counts_for_speed(name: str) -> None:
    check = CHECKS[name]
    rows = []
    for table, columns in check.supports.rows:
        invalid = {"status": "invalid", "reason_code": "attestation_mismatch"}
        rows.append((table, {**columns, **(invalid if columns.get("option", "pytorch") != "pytorch" else {})}))
    assert over_scopes(ask(check, Results(tuple(rows)))) is Verdict.INCONCLUSIVE
    untimed = {"latency_ratio": None, "latency_ratio_low": None, "latency_ratio_high": None}
    rows = [
        (table, {**columns, **(untimed if columns.get("option", "pytorch") != "pytorch" else {})})
        for table, columns in check.supports.rows
    ]
    assert over_scopes(ask(check, Results(tuple(rows)))) is Verdict.INCONCLUSIVE


def test_too_few_launches_give_no_verdict_however_narrow_the_interval() -> None:
    check = CHECKS["faster_than"]
    rows = results(reference(), cell("onnx", ratio=(2.0, 1.99, 2.01), latency_launches=2))
    assert [finding.verdict for finding in ask(check, rows)] == [Verdict.INCONCLUSIVE]


def test_runs_that_disagree_give_no_verdict() -> None:
    check = CHECKS["faster_than"]
    rows = results(
        reference(), cell("onnx", ratio=(1.05, 1.02, 1.08)),
        reference(run_id="second"), cell("onnx", ratio=(0.95, 0.92, 0.98), run_id="second"),
    )  # fmt: skip
    (finding,) = ask(check, rows)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert (finding.low, finding.high) == pytest.approx((0.92, 1.08))
    assert finding.rows == tuple(
        f"{run}/model/{option}-fp32-cpu-640-b1-t1" for run in ("second", "synthetic") for option in ("pytorch", "onnx")
    )


def test_a_target_that_is_there_but_that_the_runtime_did_not_find_is_untested() -> None:
    check = dataclasses.replace(CHECKS["faster_than"], asked={"threshold": 1.0, "scope": {"targets": ["vulkan"]}})
    found = fact("targets", "vulkan", "/usr/share/vulkan/icd.d/driver.json")
    for code, verdict in (("target_absent", Verdict.UNTESTED_HERE), ("timed_out", Verdict.INCONCLUSIVE)):
        row = cell("onnx", target="vulkan", status="skipped", reason_code=code)
        assert [finding.verdict for finding in ask(check, results(reference(), found, row))] == [verdict]


def test_a_target_that_no_machine_has_is_untested_not_refuted() -> None:
    check = dataclasses.replace(CHECKS["faster_than"], asked={"threshold": 1.0, "scope": {"targets": ["cpu", "cuda"]}})
    absent = cell("onnx", target="cuda", status="skipped", reason_code="target_absent")
    findings = ask(check, results(reference(), cell("onnx", ratio=(2.0, 1.9, 2.1)), absent))
    assert [finding.verdict for finding in findings] == [Verdict.SUPPORTED, Verdict.UNTESTED_HERE]
    assert findings[1].scope == "cuda"


GPU_MACHINE = "Xeon, 16 CPUs, GPU 0: NVIDIA H200, Linux"


def test_what_a_machine_could_have_tried_and_no_run_did_is_untested_and_says_where_and_how() -> None:
    """Another machine has no such device; the GPU of the one that has was used by another option."""
    asked = {"threshold": 1.0, "scope": {"targets": ["cuda"]}}
    check = dataclasses.replace(CHECKS["faster_than"], asked=asked, option="tensorrt")
    absent = cell("tensorrt", target="cuda", status="skipped", reason_code="target_absent")
    there = cell("onnx", target="cuda", machine=GPU_MACHINE, run_id="second")
    for rows in ((reference(), absent, there), (reference(), there)):
        (finding,) = ask(check, results(*rows))
        assert finding.verdict is Verdict.UNTESTED_HERE
        assert f"tensorrt on cuda of {GPU_MACHINE}: `yolo11-bench run --options tensorrt --targets cuda`" in (
            finding.reason.en
        )
        assert "None of the machines" not in finding.reason.en
    (finding,) = ask(check, results(reference(), absent))
    assert "None of the machines of these runs can decide it." in finding.reason.en


def test_an_option_without_a_device_is_not_spoken_for_by_one_that_found_it() -> None:
    asked = {"threshold": 1.0, "scope": {"options": ["onnx", "tensorrt"]}}
    check = dataclasses.replace(CHECKS["converts"], asked=asked)
    absent = cell("tensorrt", target="cuda", status="skipped", reason_code="target_absent")
    found = ask(check, results(cell("onnx", target="cuda", machine=GPU_MACHINE, parity_box_p999=0.001), absent))
    assert [(one.scope, one.verdict) for one in found if one.needed] == [("tensorrt", Verdict.UNTESTED_HERE)]


def test_times_of_two_machines_are_no_ratio_of_two_targets() -> None:
    asked = {"target": "cuda", "baseline_target": "cpu", "threshold": 1.0}
    check = dataclasses.replace(CHECKS["speedup_on_target"], asked=asked)
    alone = cell("onnx", target="cuda", ratio=(9.0, 8.0, 10.0), machine=GPU_MACHINE, run_id="second")
    (finding,) = ask(check, results(reference(), cell("onnx", ratio=(2.0, 1.9, 2.1)), alone))
    assert finding.verdict is Verdict.UNTESTED_HERE
    assert "times of two machines are no ratio of two targets" in finding.reason.en
    assert "--targets cpu,cuda" in finding.reason.en
    assert finding.rows
    untimed = cell("onnx", run_id="second", machine=GPU_MACHINE)
    (finding,) = ask(check, results(reference(), alone, untimed))
    assert finding.verdict is Verdict.INCONCLUSIVE, "what was tried and gave no figure"
    beside = cell("onnx", target="cuda", ratio=(9.0, 8.0, 10.0))
    (finding,) = ask(check, results(reference(), cell("onnx", ratio=(2.0, 1.9, 2.1)), beside))
    assert finding.verdict is Verdict.SUPPORTED


def test_a_target_that_is_there_without_the_other_one_decides_nothing_of_the_two() -> None:
    """A GPU in a computer without the other processor is not the GPU that the statement is about."""
    asked = {"target": "vulkan", "baseline_target": "arm-cpu", "threshold": 1.0}
    check = dataclasses.replace(CHECKS["speedup_on_target"], asked=asked)
    found = fact("targets", "vulkan", "/usr/share/vulkan/icd.d/driver.json")
    (finding,) = ask(check, results(reference(), cell("onnx"), found))
    assert finding.verdict is Verdict.UNTESTED_HERE
    assert "None of the machines of these runs can decide it." in finding.reason.en


def test_less_than_all_and_more_than_the_limit_decides_nothing() -> None:
    """No limit of lightness is said: what takes four fifths of the memory is neither light nor refutes it."""
    asked = {"threshold": 0.5, "refuted_from": 1.0, "quantity": "peak_rss_bytes"}
    check = dataclasses.replace(CHECKS["smaller_than"], asked=asked)
    for own, verdict in (
        (3_000, Verdict.SUPPORTED),
        (7_900, Verdict.INCONCLUSIVE),
        (9_900, Verdict.INCONCLUSIVE),
        (20_000, Verdict.REFUTED),
    ):
        (finding,) = ask(check, results(reference(peak_rss_bytes=10_000), cell("onnx", peak_rss_bytes=own)))
        assert finding.verdict is verdict, own
        assert ("it decides nothing" in finding.reason.en) == (verdict is Verdict.INCONCLUSIVE)


def test_what_the_guide_does_not_name_is_not_compared() -> None:
    check = CHECKS["ranks_first"]
    stranger = timed(cell("stranger", ratio=(8.0, 7.9, 8.1)), 10)
    tables = results(*check.supports.rows, *stranger).tables()
    options = {name: targets for name, targets in tables.words.options.items() if name != "stranger"}
    words = dataclasses.replace(tables.words, options=options)
    claim = check.example_claim()
    found = check.function(
        dataclasses.replace(tables, words=words), claim, parameters(claim.checks[0], check.parameters)
    )
    assert [one.verdict for one in found] == [Verdict.SUPPORTED]
    assert "the fastest of 2 other option(s)" in found[0].reason.en


def test_a_probe_that_could_not_be_made_at_all_is_untested_and_says_what_it_takes() -> None:
    check = CHECKS["served"]
    (nothing,) = ask(check, results(probe("serving", "", "", "unavailable")))
    assert nothing.verdict is Verdict.UNTESTED_HERE
    for words in (nothing.reason.en, nothing.reason.zh):
        assert "tensorflow_model_server" in words
        assert "yolo11-bench probe --only serving" in words
    (never,) = ask(check, results(cell("onnx")))
    assert (never.verdict, never.reason) == (nothing.verdict, nothing.reason)
    (other,) = ask(CHECKS["sandboxed"], results(cell("onnx")))
    assert other.reason.en == "Probe sandbox has not looked at onnx; `yolo11-bench probe --only sandbox` makes it."


def test_first_among_all_needs_all_and_slow_for_none_needs_all() -> None:
    first, spread = CHECKS["ranks_first"], CHECKS["depends_on_runtime"]
    elsewhere = cell("openvino", ratio=(1.0, 0.9, 1.1), threads=2)
    untimed = cell("openvino", map50_95=0.4)
    for extra in (elsewhere, untimed):
        (finding,) = [one for one in ask(first, Results((*first.supports.rows, extra))) if one.scope.endswith("t1")]
        assert finding.verdict is Verdict.INCONCLUSIVE
        assert "Not timed there: openvino." in finding.reason.en
    broken = cell("openvino", status="failed", reason_code="crashed")
    assert over_scopes(ask(first, Results((*first.supports.rows, broken)))) is Verdict.SUPPORTED
    scope = {"options": ["onnx", "openvino", "mnn"]}
    wider = dataclasses.replace(spread, asked={"threshold": 1.2, "scope": scope})
    assert over_scopes(ask(wider, spread.refutes)) is Verdict.INCONCLUSIVE
    assert over_scopes(ask(wider, spread.supports)) is Verdict.SUPPORTED


def test_first_means_first_in_its_own_arithmetic() -> None:
    check = CHECKS["ranks_first"]
    faster_int8 = cell("mnn", "int8", ratio=(4.0, 3.9, 4.1))
    rows = (*check.supports.rows, faster_int8)
    assert [finding.verdict for finding in ask(check, Results(rows))] == [Verdict.SUPPORTED]


def test_steadiness_is_compared_in_the_rounds_that_both_had() -> None:
    check = CHECKS["steady"]
    # Both have the same disturbed launches; neither is less steady than the other.
    both = [timed(row, ms, tail=2.0) for row, ms in ((reference(), 80.0), (cell("onnx", ratio=(2, 1.9, 2.1)), 40.0))]
    assert over_scopes(ask(check, results(*both))) is Verdict.SUPPORTED


def test_a_check_without_its_three_examples_is_not_registered() -> None:
    one, other = results(reference()), results(cell("onnx"))
    with pytest.raises(TypeError, match="wide"):
        gate.register("new", Parameters, lambda *_: [], supports=one, refutes=other)  # type: ignore[call-arg]
    with pytest.raises(GateError, match="wide holds no result"):
        gate.register("new", Parameters, lambda *_: [], supports=one, refutes=other, wide=Results(()))
    with pytest.raises(GateError, match="the same"):
        gate.register("new", Parameters, lambda *_: [], supports=one, refutes=other, wide=one)
    with pytest.raises(GateError, match="twice"):
        gate.register("steady", Parameters, lambda *_: [], supports=one, refutes=other, wide=results(cell("mnn")))
    assert "new" not in CHECKS
