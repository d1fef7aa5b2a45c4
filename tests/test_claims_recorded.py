"""The committed verdicts, and those of every committed run: none says more than the rules of claims.md let it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import store
from bench.decide.claims import judge as judgements
from bench.decide.claims.evaluate import Judged
from bench.decide.claims.registry import load_claims
from bench.decide.claims.statements import Claim
from bench.decide.claims.verdicts import KINDS, NAMES, Kind, Verdict
from bench.places import MATRICES, ROOT

REFERENCE = ROOT / "results" / "reference"
RUNS = sorted(path.parent for path in REFERENCE.glob("*/cells.parquet"))
STORED = sorted(path.parent for path in REFERENCE.glob("*/claims.parquet"))
TOGETHER = (
    "coco128-320-arm-emulated",
    "coco128-640-scaling",
    "coco128-640-cuda",
    "coco128-640-intel",
    "coco128-640-guide",
)
"""The runs that the guide is judged by, as results/README.md gives them; the verdicts are kept in the last."""
CLAIMS = {one.id: one for one in load_claims()}


def supported_wholly(claim: Claim, parts: dict[str, set[tuple[str, str]]]) -> list[str]:
    """What keeps a statement that is called supported from being so; `parts` have (kind, verdict) of the findings."""
    lacking = []
    for part in claim.parts:
        found = parts.get(part.id, set()) | parts.get("", set())
        if part.why is not None:
            lacking.append(f"{part.id}: {part.why.en}")
        elif (Kind.MEASURED.value, Verdict.SUPPORTED.value) not in found:
            lacking.append(f"{part.id}: nothing measured supports it")
    return lacking


@pytest.mark.parametrize("directory", STORED, ids=lambda path: path.name)
def test_no_stored_verdict_rests_on_a_proxy_or_leaves_a_part_out(directory: Path) -> None:
    frame = store.read_table(directory, "claims")
    heads = frame[frame.check == ""]
    measured = heads[heads.origin == "measured"]
    assert set(measured.claim_id) == set(CLAIMS)
    assert not heads.duplicated(["claim_id", "origin"]).any()
    for row in heads.to_dict("records"):
        name, verdict = str(row["claim_id"]), Verdict(row["verdict"])
        kind = KINDS[verdict]
        assert row["kind"] == (kind.value if kind else ""), name
        own = frame[(frame.claim_id == name) & (frame.origin == row["origin"]) & (frame.check != "")]
        if kind is Kind.MEASURED:
            decided = set(own[own.kind == Kind.MEASURED.value].verdict)
            assert decided & {Verdict.SUPPORTED.value, Verdict.REFUTED.value}, f"{name} rests on no measurement"
        if verdict is Verdict.SUPPORTED:
            parts: dict[str, set[tuple[str, str]]] = {}
            for part, by, found in zip(own.part, own.kind, own.verdict, strict=True):
                parts.setdefault(str(part), set()).add((str(by), str(found)))
            assert supported_wholly(CLAIMS[name], parts) == [], name
    facts = frame[frame.kind == Kind.FACT.value]
    assert set(facts.verdict) <= {Verdict.FACT.value}


def check(judged: tuple[Judged, ...]) -> None:
    for one in judged:
        verdict, kinds = one.verdict.verdict, {own.kind for own, _ in one.findings}
        decided = {(own.kind, found.verdict) for own, found in one.findings}
        if verdict is Verdict.SUPPORTED:
            assert {part.verdict for part in one.parts} == {Verdict.SUPPORTED}, one.claim.id
        if KINDS[verdict] is Kind.MEASURED and verdict is not Verdict.REFUTED:
            assert (Kind.MEASURED, Verdict.SUPPORTED) in decided, one.claim.id
        if verdict is Verdict.REFUTED:
            necessary = any(own.necessary and found.verdict is Verdict.REFUTED for own, found in one.findings)
            assert necessary or (Kind.MEASURED, Verdict.REFUTED) in decided, one.claim.id
        if kinds and kinds <= {Kind.PROXY, Kind.FACT} and not any(own.necessary for own in one.claim.checks):
            assert KINDS[verdict] is not Kind.MEASURED, one.claim.id


@pytest.mark.parametrize("directory", RUNS, ids=lambda path: path.name)
def test_no_committed_run_supports_by_a_proxy_or_in_part_as_a_whole(directory: Path) -> None:
    judgement = judgements.judge([directory], MATRICES)
    assert len(judgement.judged) == len(CLAIMS)
    check(judgement.judged)
    check(judgement.published)


def test_the_stored_verdicts_are_those_of_now() -> None:
    judgement = judgements.judge([REFERENCE / name for name in TOGETHER], MATRICES)
    check(judgement.judged)
    frame = store.read_table(REFERENCE / TOGETHER[-1], "claims")
    heads = frame[frame.check == ""].set_index(["origin", "claim_id"])
    now = {
        (one.origin, one.claim.id): (one.verdict.verdict.value, one.verdict.reason.en, one.verdict.reason.zh)
        for one in (*judgement.judged, *judgement.published)
    }
    kept = {
        key: (row.verdict, row.reason, row.reason_zh) for key, row in zip(heads.index, heads.itertuples(), strict=True)
    }
    assert kept == now, "judge them again as results/README.md says"


def test_tensorrt_is_decided_by_nothing_where_it_did_not_run() -> None:
    """The H200's run has the GPU and not TensorRT: no statement about it moves, and each says so."""
    frame = store.read_table(REFERENCE / TOGETHER[-1], "claims")
    named = [one.id for one in CLAIMS.values() if one.option == "tensorrt" and one.deciding]
    heads = frame[(frame.check == "") & (frame.origin == "measured") & frame.claim_id.isin(named)]
    timed = heads[~heads.claim_id.str.endswith("maintenance")]
    assert set(timed.verdict) == {Verdict.UNTESTED_HERE.value}
    assert timed.reason.str.contains("None of these runs tried TensorRT on NVIDIA GPU", regex=False).all()
    assert timed.reason.str.contains("NVIDIA H200", regex=False).all()


def rows_of(document: str, *titles: str) -> list[dict[str, str]]:
    """Rows of the tables that begin with these titles, by the titles."""
    found, header = [], list[str]()
    for line in document.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not header:
            header = cells
        elif not cells:
            header = []
        elif header[: len(titles)] == list(titles) and not set(line) <= set("|-"):
            found.append(dict(zip(header, cells, strict=True)))
    return found


def test_the_document_of_contested_verdicts_has_the_counts_and_verdicts_of_now() -> None:
    document = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
    frame = store.read_table(REFERENCE / TOGETHER[-1], "claims")
    heads = frame[(frame.check == "") & (frame.origin == "measured")].set_index("claim_id").verdict
    bullets = [name for name, one in CLAIMS.items() if one.aspect != "general"]
    assert (len(bullets), len(heads)) == (98, 142)
    by_name = {name.en: verdict.value for verdict, name in NAMES.items()}
    # `is` stands twice in the header; the last, of all statements, is the one that is kept by its title.
    counted = {row["verdict"]: row for row in rows_of(document, "verdict", "rests on")}
    assert len(counted) == 9
    assert {by_name[name]: int(row["is"]) for name, row in counted.items()} == {
        verdict: int((heads == verdict).sum()) for verdict in map(by_name.get, counted)
    }
    for line in document.splitlines():
        name = line.strip("|").split("|")[0].strip()
        if name in counted:
            assert int(line.split("|")[5]) == int((heads[bullets] == by_name[name]).sum()), line
    told = [
        (name, row["is"])
        for row in rows_of(document, "statement", "then", "is")
        for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", row["statement"])
    ]
    assert len(told) > 20
    assert {name: by_name[now] for name, now in told} == {name: heads[name] for name, _ in told}
