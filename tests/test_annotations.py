"""Verdicts on the guide's own lines: the right characters, valid SARIF, and Markdown that shows text as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import schemas
from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError
from markdown_it import MarkdownIt
from test_claims_registry import BESIDE
from typer.testing import CliRunner

from bench import store
from bench.cli import app as cli
from bench.decide.claims import checks as _registered  # noqa: F401 - registers every check
from bench.decide.claims import document, gate, registry
from bench.decide.claims.statements import GENERAL, Claim, DocumentFacts
from bench.decide.claims.verdicts import Verdict
from bench.places import MATRICES
from bench.reasons import UsageError
from bench.report.annotated import marked, notes, positions, sarif
from bench.report.annotated.notes import Annotated
from bench.words import locale as locales

HOSTILE = "</script><script>alert(1)</script> [x](javascript:alert(1)) **b** `c` {0} <img src=x>\x1b[31m\u202e"


@pytest.fixture(scope="module")
def facts() -> DocumentFacts:
    return registry.load_document_facts()


@pytest.fixture(scope="module")
def claims() -> tuple[Claim, ...]:
    return registry.load_claims()


def guide_text(claims: Sequence[Claim], facts: DocumentFacts) -> str:
    """A guide that says what is registered, and nothing else, with the headings and the table of the real one."""
    lines = ["---", "title: invented", "---", "", f"# {facts.title}", ""]
    sections = dict.fromkeys(claim.section for claim in claims)
    for section in sections:
        lines += [f"## {section}", ""]
        for claim in claims:
            if claim.section == section and claim.aspect == GENERAL:
                lines += [claim.quote, ""]
        own = [claim for claim in claims if claim.section == section and claim.aspect != GENERAL]
        lines += [f"- **{facts.aspects[claim.aspect]}**：{claim.quote}" for claim in own]
        lines.append("")
    rows = [facts.columns, ["---"] * len(facts.columns)]
    for option, name in facts.options.items():
        cells = [claim.table.quote for claim in claims if claim.option == option and claim.table is not None]
        rows.append([name, *cells])
    lines += [f"## {facts.table_section}", ""] + [f"| {' | '.join(row)}   |" for row in rows]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def text(claims: tuple[Claim, ...], facts: DocumentFacts) -> str:
    return guide_text(claims, facts)


def write_verdicts(folder: Path, claims: Sequence[Claim], reason: str = "The figure says so.") -> Path:
    """Invented verdicts, every kind of them; each check that is registered decides some."""
    rows = []
    kinds = cycle([Verdict.SUPPORTED, Verdict.REFUTED, Verdict.MIXED, Verdict.INCONCLUSIVE, Verdict.UNTESTED_HERE])
    for claim in claims:
        verdict = Verdict.NOT_MEASURABLE if claim.not_measurable is not None else next(kinds)
        figures: dict[str, Any] = {"value": 0.854, "low": 0.826, "high": 0.884, "threshold": 1.0, "unit": "x"}
        combined = {
            "claim_id": claim.id, "option": claim.option, "aspect": claim.aspect, "origin": "measured", "check": "",
            "verdict": verdict, "scope": "", "machine": "Invented CPU", "reason": reason, "reason_zh": f"因为{reason}",
            "kind": "measured", "evidence": '["run/cell"]', "document_sha256": "0" * 64,
        } | (figures if claim.checks else {})  # fmt: skip
        rows.append(combined)
        deciding = Verdict.REFUTED if verdict is Verdict.MIXED else verdict
        rows += [{**combined, "check": check.check, "scope": "cpu", "verdict": deciding} for check in claim.checks]
        if claim.aspect == "performance":
            rows.append({**combined, "origin": "published", "verdict": Verdict.REFUTED})
    folder.mkdir(parents=True, exist_ok=True)
    store.write_table(folder, "claims", rows)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, claims: tuple[Claim, ...]) -> Path:
    return write_verdicts(tmp_path_factory.mktemp("verdicts"), claims)


@pytest.fixture
def guide(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "guide.md"
    path.write_text(text, encoding="utf-8")
    return path


def annotate(run: Path, guide: Path, language: notes.Language = "en") -> Annotated:
    return notes.annotate(run, guide, MATRICES, language)


def results(log: str) -> dict[str, dict[str, Any]]:
    found = json.loads(log)["runs"][0]["results"]
    return {one["partialFingerprints"]["statement/v1"]: one for one in found}


def region_text(text: str, result: dict[str, Any]) -> str:
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region["startLine"] == region["endLine"]
    line: str = text.splitlines()[region["startLine"] - 1]
    return line[region["startColumn"] - 1 : region["endColumn"] - 1]


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    """The standard's own schema."""
    return schemas.validator(sarif.SCHEMA)


# Places


def test_every_note_stands_on_exactly_the_words_it_is_about(
    run: Path, guide: Path, text: str, claims: tuple[Claim, ...]
) -> None:
    found = results(sarif.render(annotate(run, guide)))
    for claim in claims:
        assert region_text(text, found[f"{claim.id}/statement"]) == claim.quote
        if claim.table is not None:
            assert region_text(text, found[f"{claim.id}/table"]) == claim.table.quote
    assert len(found) == len(claims) + sum(claim.table is not None for claim in claims)


def test_the_guide_itself_is_annotated_to_the_character(
    request: pytest.FixtureRequest, run: Path, claims: tuple[Claim, ...]
) -> None:
    given = request.config.getoption("bench_document")
    path = Path(given) if given else BESIDE
    if not given and not path.is_file():
        pytest.skip("no guide: name it with --document PATH")
    real = path.read_text(encoding="utf-8")
    found = results(sarif.render(annotate(run, path)))
    for claim in claims:
        assert region_text(real, found[f"{claim.id}/statement"]) == claim.quote
        if claim.table is not None:
            assert region_text(real, found[f"{claim.id}/table"]) == claim.table.quote
    plain = marked.render(annotate(run, path)).splitlines()
    kept = iter(plain)
    assert all(line in kept for line in real.splitlines()), "every line of the guide is there, in its order"


def test_words_over_several_lines_and_cells_without_outer_bars_are_found() -> None:
    lines = ["- **性能基准**：one two", "  three four", "", "PyTorch | a \\| b | c"]
    assert positions._words(lines, 1, "one two\nthree four") == positions.Region(1, 12, 2, 13)
    assert positions._words(lines, 1, "three") == positions.Region(2, 3, 2, 8)
    assert positions._cell(lines, 4, 1) == positions.Region(4, 11, 4, 17)
    assert positions._cell(lines, 4, 2) == positions.Region(4, 20, 4, 21)


# SARIF


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_log_follows_the_standard_s_schema(
    run: Path, guide: Path, language: notes.Language, validator: Draft7Validator
) -> None:
    log = json.loads(sarif.render(annotate(run, guide, language)))
    validator.validate(log)
    rules = [rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]]
    for one in log["runs"][0]["results"]:
        assert rules[one["ruleIndex"]] == one["ruleId"]
        assert one["level"] == ("warning" if one["properties"]["verdict"] in ("refuted", "mixed", "stale") else "note")
    # The schema is one that can say no.
    log["runs"][0]["results"][0]["level"] = "severe"
    with pytest.raises(ValidationError, match="severe"):
        validator.validate(log)


def test_messages_carry_the_figure_its_interval_and_what_published_tables_say(run: Path, guide: Path) -> None:
    found = results(sarif.render(annotate(run, guide)))
    said = found["torchscript.performance/statement"]["message"]["text"]
    assert "The figure says so. Figure: 0.854 [0.826, 0.884] x; held against 1.00 x, fixed beforehand." in said
    assert said.endswith("By tables published elsewhere: refuted.")
    cell = found["torchscript.performance/table"]["message"]["text"]
    assert cell.endswith("The table says it differently: The bullet says 'can'; the cell promises it.")
    assert found["torchscript.performance/statement"]["ruleId"] == "faster_than"
    assert found["pytorch.community/statement"]["ruleId"] == "not_measurable"


def test_fingerprints_stay_when_lines_move(run: Path, guide: Path, text: str) -> None:
    before = results(sarif.render(annotate(run, guide)))
    guide.write_text(text.replace(f"\n# {'YOLO11'}", "\nA line.\n\nAnother.\n\n# YOLO11", 1), encoding="utf-8")
    after = results(sarif.render(annotate(run, guide)))
    assert before.keys() == after.keys()

    def lines(found: dict[str, dict[str, Any]]) -> list[int]:
        return [one["locations"][0]["physicalLocation"]["region"]["startLine"] for one in found.values()]

    assert [line + 4 for line in lines(before)] == lines(after)


def test_a_changed_or_missing_statement_is_stale_whatever_was_judged(
    run: Path, guide: Path, text: str, claims: tuple[Claim, ...]
) -> None:
    claim = {one.id: one for one in claims}
    changed, gone, cell = claim["torchscript.performance"], claim["onnx.security"], claim["ncnn.hardware"]
    assert cell.table is not None
    text = text.replace(changed.quote, "现在的说法。", 1)
    text = "".join(line for line in text.splitlines(keepends=True) if not line.endswith(f"**：{gone.quote}\n"))
    row = next(line for line in text.splitlines() if line.startswith("| NCNN"))
    text = text.replace(row, row.replace(cell.table.quote, "另一种说法"))
    guide.write_text(text, encoding="utf-8")
    annotated = annotate(run, guide)
    stale = {note.claim.id for note in annotated.notes if note.verdict is Verdict.STALE}
    assert stale == {changed.id, gone.id, cell.id}
    found = results(sarif.render(annotated))
    assert region_text(text, found[f"{changed.id}/statement"]) == "现在的说法。"
    assert region_text(text, found[f"{cell.id}/table"]) == "另一种说法"
    assert found[f"{changed.id}/statement"]["ruleId"] == "stale"
    assert changed.quote in found[f"{changed.id}/statement"]["message"]["text"]
    assert "region" not in found[f"{gone.id}/statement"]["locations"][0]["physicalLocation"]
    written = marked.render(annotated)
    assert "**stale**: the document no longer says" in written
    head = written[: written.index("## ")]
    assert f"`{gone.id}`" in head
    assert f"`{changed.id}`" not in head


def test_every_check_has_its_rule_in_both_languages() -> None:
    for locale in locales.load(notes.TEXTS).values():
        rules = {key.removeprefix("rule.") for key in locale.strings if key.startswith("rule.")}
        assert rules == {*gate.CHECKS, *notes.RULES_BESIDE_CHECKS}


# Markdown


def test_markdown_keeps_the_guide_and_puts_each_verdict_under_its_statement(
    run: Path, guide: Path, text: str, facts: DocumentFacts, claims: tuple[Claim, ...]
) -> None:
    written = marked.render(annotate(run, guide, "zh"))
    assert written.startswith("---\ntitle: invented\n---\n\n> **")
    # The guide's statements, and their places in lists and in the table, are the same when the result is parsed.
    again = document.parse(written, facts)
    assert [bullet.quote for bullet in again.bullets] == [
        claim.quote for section in facts.options for claim in claims if claim.id.startswith(f"{section}.")
    ]
    assert [cell.quote for cell in again.cells] == [cell.quote for cell in document.parse(text, facts).cells]
    lines = written.splitlines()
    for claim in claims:
        if claim.aspect != GENERAL:
            place = next(i for i, line in enumerate(lines) if line.endswith(f"**：{claim.quote}"))
            assert lines[place + 1].startswith("  > **"), claim.id
    html = MarkdownIt("commonmark").enable("table").render(written.partition("---\n\n")[2])
    assert html.count("<li>") == html.count("<blockquote>\n<p><strong>") - 1 + len(facts.options)
    assert "<strong>不成立</strong>" in html


def test_hostile_text_stays_text(tmp_path: Path, guide: Path, claims: tuple[Claim, ...]) -> None:
    run = write_verdicts(tmp_path / "hostile", claims, HOSTILE)
    annotated = annotate(run, guide)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(marked.render(annotated))
    assert "<script" not in html
    assert "<img" not in html
    assert 'href="javascript' not in html
    assert "<strong>b</strong>" not in html
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:alert(1)) **b** `c` {0}" in html
    assert "\x1b" not in html + sarif.render(annotated)
    said = results(sarif.render(annotated))["onnx.performance/statement"]["message"]["text"]
    assert "[x] (javascript:alert(1)) **b** `c` {{0}} <img" in said


# The command


def test_output_is_the_same_byte_for_byte_and_goes_where_it_is_told(run: Path, guide: Path, tmp_path: Path) -> None:
    # The newest run is looked for by its cells, so the folder has to have some.
    store.write_table(run, "cells", [])
    outs = [tmp_path / "a" / "one.sarif", tmp_path / "two.sarif"]
    for out in outs:
        arguments = ["annotate", str(run), "--document", str(guide), "--out", str(out)]
        assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    shown = CliRunner().invoke(cli.app, ["annotate", str(run), "--document", str(guide), "--format", "markdown"])
    assert shown.output == marked.render(annotate(run, guide, "zh"))


def test_what_is_missing_is_told(run: Path, guide: Path, tmp_path: Path, claims: tuple[Claim, ...]) -> None:
    with pytest.raises(UsageError, match=r"holds no verdicts; make them with `python -m bench claims"):
        annotate(tmp_path, guide)
    fewer = write_verdicts(tmp_path / "fewer", claims[1:])
    with pytest.raises(UsageError, match=f"no verdict on {claims[0].id}; judge it again"):
        annotate(fewer, guide)
    with pytest.raises(UsageError, match="cannot be read"):
        annotate(run, tmp_path / "nowhere.md")
    with pytest.raises(UsageError, match="cannot be written"):
        notes.write(guide / "below" / "a.sarif", "")
