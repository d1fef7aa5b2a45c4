"""Published tables: entered as data, judged by the same checks, and linted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.decide.claims import gate, published
from bench.decide.claims.evaluate import evaluate_published
from bench.decide.claims.lints import RULES, credible, lint
from bench.decide.claims.statements import Claim
from bench.decide.claims.synthetic import Row, cell, results
from bench.decide.claims.tables import Tables
from bench.decide.claims.verdicts import Finding, Verdict
from bench.grid import matrix
from bench.reasons import UsageError
from bench.words.text import Text

WORDS = Text(en="Words.", zh="文字。")


@pytest.fixture(scope="module")
def tables() -> Tables:
    return published.load(matrix.load())


def ask(tables: Tables, option: str, check: str, **parameters: object) -> dict[str, Finding]:
    """Findings by machine, of which there is one each."""
    data = {
        "id": f"{option}.performance", "option": option, "aspect": "performance", "section": "-", "line": 1,
        "quote": "-", "english": "-", "reading": WORDS, "supports": WORDS, "refutes": WORDS,
        "parts": [{"id": "all", "says": WORDS}],
        "checks": [{"check": check, "kind": "measured", "because": WORDS, **parameters}],
    }  # fmt: skip
    judged = evaluate_published([Claim.model_validate(data)], tables)
    findings = [finding for one in judged for _, finding in one.findings]
    assert len({finding.machine for finding in findings}) == len(findings)
    return {finding.machine: finding for finding in findings}


def test_torchscript_is_faster_on_some_boards_and_slower_on_others(tables: Tables) -> None:
    found = ask(tables, "torchscript", "faster_than", threshold=1.0)
    assert {machine: round(one.value or 0, 2) for machine, one in found.items()} == {
        "Raspberry Pi 5, 8.3.39": 0.77,
        "Raspberry Pi 5, a revision before 8.3.39": 0.79,
        "Jetson AGX Orin, 8.3.133": 0.82,
        "Intel Core i9-12900KS, OpenVINO 2025.1": 0.98,
        "Jetson Orin Nano Super, 8.3.51": 1.59,
        "Jetson Orin NX 16GB, 8.3.51": 1.50,
    }
    near = found.pop("Intel Core i9-12900KS, OpenVINO 2025.1")
    assert near.verdict is Verdict.INCONCLUSIVE, "0.98 without an interval is too near to 1"
    assert {one.verdict for one in found.values()} == {Verdict.SUPPORTED, Verdict.REFUTED}
    assert all("Published, no interval given" in one.reason.en for one in found.values())
    assert all(one.low is None for one in found.values())


def test_ncnn_was_the_fastest_on_the_raspberry_pi_and_no_longer_is(tables: Tables) -> None:
    found = ask(tables, "ncnn", "ranks_first", scope={"targets": ["arm-cpu"]})
    assert found["Raspberry Pi 5, 8.3.39"].verdict is Verdict.REFUTED
    assert found["Raspberry Pi 5, 8.3.39"].value == pytest.approx(81.2 / 88.0)
    assert found["Raspberry Pi 5, a revision before 8.3.39"].verdict is Verdict.SUPPORTED


def test_int8_loses_its_accuracy_on_two_boards(tables: Tables) -> None:
    found = ask(tables, "tensorrt", "accuracy_kept", threshold=0.05, scope={"precisions": ["int8"]})
    lost = {machine: one.value for machine, one in found.items() if one.verdict is Verdict.REFUTED}
    boards = ("Jetson Orin Nano Super, 8.3.51", "Jetson Orin NX 16GB, 8.3.51")
    assert lost == pytest.approx(dict.fromkeys(boards, -0.2996), abs=5e-5)


def test_a_claim_the_tables_say_nothing_of_has_no_published_verdict(tables: Tables) -> None:
    assert ask(tables, "coreml", "faster_than", threshold=1.0) == {}
    assert ask(tables, "onnx", "no_network") == {}


def test_lints_of_the_published_tables(tables: Tables) -> None:
    found: dict[str, list[str]] = {}
    for one in lint(tables.grid):
        found.setdefault(one.rule, []).append(one.text.en)
        assert one.text.zh
        assert one.rows
    assert {rule: len(texts) for rule, texts in found.items()} == {
        "duplicate_rows": 1, "larger_model_faster": 1, "accuracy_collapse": 3, "reduced_precision_slower": 4,
        "few_images": 4, "same_on_different_hardware": 1,
    }  # fmt: skip
    assert "348.97 ms" in found["duplicate_rows"][0]
    assert "yolo11x (18.13 ms) is faster than the smaller yolo11l (19.17 ms)" in found["larger_model_faster"][0]
    assert [text.split(",")[0] for text in sorted(found["accuracy_collapse"])] == [
        "Intel Core Ultra 7 265K", "Jetson Orin NX 16GB", "Jetson Orin Nano Super",
    ]  # fmt: skip
    assert [text.split(",")[0] for text in sorted(found["reduced_precision_slower"])] == [
        "Intel Arc A770", "Intel Arc B580", "Intel Core Ultra 7 258V", "Intel Core Ultra 7 265K",
    ]  # fmt: skip
    assert "508.12 ms" in found["same_on_different_hardware"][0]


def printed(option: str, ms: float, precision: str = "fp32", **columns: object) -> Row:
    model = columns.pop("model", "yolo11n")
    where = {"cell_id": f"{model}/{option}-{precision}", "model": model, "images": 5000, "map50_95": 0.4}
    return cell(option, precision, latency_p50_ms=ms, **(where | columns))  # type: ignore[arg-type]


# Per rule: rows that it must find something in, and rows as near to them as can be in which it must not.
EXAMPLES: dict[str, tuple[list[Row], list[Row]]] = {
    "duplicate_rows": ([printed("onnx", 9.5), printed("mnn", 9.5)], [printed("onnx", 9.5), printed("mnn", 9.6)]),
    "larger_model_faster": (
        [printed("onnx", 9.5), printed("onnx", 9.4, model="yolo11s", map50_95=0.5)],
        [printed("onnx", 9.4), printed("onnx", 9.5, model="yolo11s", map50_95=0.5)],
    ),
    "accuracy_collapse": (
        [printed("onnx", 9.5), printed("onnx", 5.5, "int8", map50_95=0.37)],
        [printed("onnx", 9.5), printed("onnx", 5.5, "int8", map50_95=0.39)],
    ),
    "reduced_precision_slower": (
        [printed("onnx", 9.5), printed("onnx", 9.6, "int8", map50_95=0.39)],
        [printed("onnx", 9.5), printed("onnx", 9.5, "int8", map50_95=0.39)],
    ),
    "few_images": ([printed("onnx", 9.5, images=4)], [printed("onnx", 9.5, images=128)]),
    "same_for_different_models": (
        [printed("onnx", 9.5), printed("onnx", 12.5, model="yolo11s")],
        [printed("onnx", 9.5), printed("mnn", 12.5)],
    ),
    "same_on_different_hardware": (
        [printed("onnx", 95.12), printed("onnx", 95.12, run_id="other", machine="other")],
        [printed("onnx", 9.5), printed("onnx", 9.5, run_id="other", machine="other")],
    ),
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_lint_finds_what_it_is_for_and_leaves_its_neighbour_alone(rule: str) -> None:
    wrong, right = EXAMPLES[rule]
    assert {one.rule for one in lint(results(*wrong).tables("published").grid)} == {rule}
    assert lint(results(*right).tables("published").grid) == []


def test_no_verdict_rests_on_what_the_lints_find() -> None:
    cells = [printed("pytorch", 20.0), printed("onnx", 9.5), printed("onnx", 5.5, "int8", map50_95=0.2)]
    copies = [printed("mnn", 7.5), printed("ncnn", 7.5)]
    grid = results(*cells, *copies).tables("published").grid
    kept = credible(grid, lint(grid)).set_index("cell_id")
    assert sorted(kept.index) == ["yolo11n/onnx-fp32", "yolo11n/onnx-int8", "yolo11n/pytorch-fp32"]
    assert kept.status.to_dict() == {
        "yolo11n/onnx-fp32": "measured",
        "yolo11n/onnx-int8": "failed",
        "yolo11n/pytorch-fp32": "measured",
    }
    assert kept.loc["yolo11n/onnx-int8", "reason_code"] == "accuracy_collapsed"
    few = results(printed("onnx", 9.5, images=4)).tables("published").grid
    assert credible(few, lint(few)).map50_95.isna().all()
    assert credible(few, lint(few)).latency_p50_ms.notna().all()


def test_a_wrong_page_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.toml"
    head = 'source = "s"\nversion = "1"\nimgsz = 640\n[[hardware]]\nname = "board"\ntarget = "cpu"\n'
    page.write_text(head + 'rows = [{ option = "onnx", precision = "fp32", ms = -1 }]\n')
    with pytest.raises(UsageError, match=r"page\.toml: hardware\.0\.rows\.0\.ms"):
        published.load_pages(tmp_path)
    row = '{ option = "onnx", precision = "fp32", ms = 9.5 }'
    page.write_text(head + f"rows = [{row}, {row}]\n")
    with pytest.raises(UsageError, match=r"page\.toml: board: yolo11n-onnx-fp32-cpu stands there twice"):
        published.load_pages(tmp_path)


def test_every_check_takes_published_tables(tables: Tables) -> None:
    for check in gate.CHECKS.values():
        evaluate_published([check.example_claim()], tables)
