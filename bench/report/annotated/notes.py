"""Verdicts as annotations on the guide's own lines: which note stands where and what it says.

`sarif.py` and `marked.py` write them down for tools and for readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bench import store
from bench.decide.claims import document, gate, registry
from bench.decide.claims.checks._common import number, shown
from bench.decide.claims.statements import Claim, DocumentFacts
from bench.decide.claims.verdicts import DECISIVE, NAMES, Estimate, Kind, Verdict
from bench.files import replacing
from bench.grid import matrix
from bench.places import REPORTS
from bench.reasons import UsageError
from bench.report.annotated.positions import Place, locate
from bench.words import locale as locales
from bench.words.locale import Locale
from bench.words.numbers import clean

Language = Literal["en", "zh"]
TEXTS = REPORTS / "locale" / "annotations"
RULES_BESIDE_CHECKS = ("not_measurable", "untested", "stale")
"""What a note goes by that no check decided."""


@dataclass(frozen=True)
class Row:
    """The stored verdict of a claim: the row that combines its findings."""

    verdict: Verdict
    check: str
    reason: Mapping[str, str]
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    unit: str
    machine: str
    date: str
    evidence: str


@dataclass(frozen=True)
class Note:
    """What is said of one place.  `rule` is the check that decided, or why none did."""

    place: Place
    verdict: Verdict
    rule: str
    text: str
    row: Row | None

    @property
    def claim(self) -> Claim:
        """The claim it is about."""
        return self.place.claim

    @property
    def identity(self) -> str:
        """Stable name of the note: it stays when lines move and when the verdict changes."""
        return f"{self.claim.id}/{self.place.kind}"


@dataclass(frozen=True)
class Annotated:
    """A document with its notes, in the order of the claims."""

    text: str
    sha256: str
    facts: DocumentFacts
    locale: Locale
    notes: tuple[Note, ...]

    @property
    def statements(self) -> tuple[Note, ...]:
        """One note per claim, that on its statement."""
        return tuple(note for note in self.notes if note.place.kind == "statement")


def annotate(run: Path, guide: Path, matrices: Path, language: Language) -> Annotated:
    """The verdicts stored in a run's folder, put onto the lines of the guide at `guide`.

    Raises UsageError when the run has no verdicts or lacks that of a claim, or when the guide cannot be read;
    store.StoreError for a table that cannot be.
    """
    if not (run / "claims.parquet").is_file():
        raise UsageError(f"{run} holds no verdicts; make them with `python -m bench claims {run}`")
    facts = registry.load_document_facts(matrices / "claims")
    claims = registry.load_claims(matrices / "claims", gate.models(), matrix.load(matrices))
    read = document.read(guide, facts)
    gone = document.stale(read, claims)
    text = guide.read_bytes().decode("utf-8")
    rows = _rows(store.read_table(run, "claims"))
    missing = [claim.id for claim in claims if (claim.id, "measured") not in rows]
    if missing:
        known = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UsageError(f"{run}: no verdict on {known}; judge it again with `python -m bench claims {run}`")
    locale = locales.load(TEXTS)[language]
    notes = tuple(_note(place, rows, place.claim.id in gone, locale) for place in locate(text, read, claims, facts))
    return Annotated(text, read.sha256, facts, locale, notes)


def write(out: Path, text: str) -> None:
    """Replace a file as a whole.  Raises UsageError when it cannot be written."""
    try:
        with replacing(out) as sink:
            sink.write(text.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror}. Choose another place.") from error


def _note(place: Place, rows: Mapping[tuple[str, str], Row], stale: bool, locale: Locale) -> Note:
    claim = place.claim
    if stale:
        quote = claim.table.quote if place.kind == "table" and claim.table else claim.quote
        text = locale("stale", verdict=locale.pick(NAMES[Verdict.STALE]), quote=quote)
        return Note(place, Verdict.STALE, "stale", clean(text), None)
    row = rows[claim.id, "measured"]
    parts = [locale("statement", verdict=locale.pick(NAMES[row.verdict]), reason=row.reason[locale.language])]
    if row.value is not None:
        figure = f"{shown(Estimate(row.value, row.low, row.high), row.unit)} {row.unit}".strip()
        if row.threshold is None:
            parts.append(locale("figure_alone", figure=figure))
        else:
            threshold = f"{number(row.threshold, row.unit)} {row.unit}".strip()
            parts.append(locale("figure", figure=figure, threshold=threshold))
    if row.machine:
        parts.append(locale("seen_on" if row.date else "seen", machine=row.machine, date=row.date))
    elsewhere = rows.get((claim.id, "published"))
    if elsewhere is not None:
        parts.append(locale("published", verdict=locale.pick(NAMES[elsewhere.verdict])))
    if place.kind == "table" and claim.table is not None and claim.table.difference is not None:
        parts.append(locale("difference", difference=locale.pick(claim.table.difference)))
    none = "untested" if row.verdict is Verdict.UNTESTED_HERE else "not_measurable"
    return Note(place, row.verdict, row.check or none, clean("".join(parts)), row)


def _rows(table: pd.DataFrame) -> dict[tuple[str, str], Row]:
    """Combining rows by claim and origin; each with the check of the first finding that has its verdict."""
    rows: dict[tuple[str, str], Row] = {}
    findings: dict[tuple[str, str], list[Any]] = {}
    for record in table.to_dict("records"):
        key = (str(record["claim_id"]), str(record["origin"]))
        if record["check"] and record["kind"] != Kind.FACT:
            findings.setdefault(key, []).append(record)
    for record in table.to_dict("records"):
        key = (str(record["claim_id"]), str(record["origin"]))
        if record["check"]:
            continue
        verdict = Verdict(record["verdict"])
        wanted = DECISIVE.get(verdict, verdict)
        own = findings.get(key, [])
        deciding = next((one for one in own if one["verdict"] == wanted), own[0] if own else None)
        rows[key] = Row(
            verdict=verdict,
            check=str(deciding["check"]) if deciding else "",
            reason={"en": _text(record["reason"]), "zh": _text(record["reason_zh"])},
            value=_number(record["value"]),
            low=_number(record["low"]),
            high=_number(record["high"]),
            threshold=_number(record["threshold"]),
            unit=_text(record["unit"]),
            machine=_text(record["machine"]),
            date="" if pd.isna(record["date"]) else str(record["date"])[:10],
            evidence=_text(record["evidence"]),
        )
    return rows


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
