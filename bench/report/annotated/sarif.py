"""Annotations as SARIF 2.1.0, OASIS' Static Analysis Results Interchange Format: editors and forges show it in place.

The few objects needed are written out plainly and a test holds them to the standard's own schema; the maintained
object models for Python take any key and need none, so they would find no mistake.
"""

from __future__ import annotations

import json
import re
from typing import Any

from bench.decide.claims.verdicts import Verdict
from bench.report.annotated.notes import Annotated, Note

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LANGUAGES = {"en": "en-US", "zh": "zh-CN"}
# What its owners may want to change is a warning.  Any other kind of result than a failed one would have to be without
# a level, and viewers then leave it out of the lines; so all are of that kind, and the verdict is in words.
_WARNINGS = frozenset({Verdict.REFUTED, Verdict.MIXED, Verdict.STALE})


def render(annotated: Annotated) -> str:
    """The log as text.  Equal verdicts and documents give equal text."""
    facts, locale = annotated.facts, annotated.locale
    source = facts.source.partition(": ")[2] or facts.source
    rules = sorted({note.rule for note in annotated.notes})
    run = {
        "tool": {
            "driver": {
                "name": "YOLO11 deployment bench",
                "rules": [
                    {"id": rule, "shortDescription": {"text": _message(locale(f"rule.{rule}"))}} for rule in rules
                ],
            }
        },
        "language": LANGUAGES[locale.language],
        "columnKind": "unicodeCodePoints",
        "artifacts": [
            {
                "location": {"uri": source, "uriBaseId": "%SRCROOT%"},
                "encoding": "UTF-8",
                "hashes": {"sha-256": annotated.sha256},
            }
        ],
        "results": [_result(note, rules.index(note.rule), source) for note in annotated.notes],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, ensure_ascii=False, indent=2) + "\n"


def _result(note: Note, rule: int, source: str) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": source, "uriBaseId": "%SRCROOT%", "index": 0}}
    region = note.place.region
    if region is not None:
        physical["region"] = {
            "startLine": region.line,
            "startColumn": region.column,
            "endLine": region.end_line,
            "endColumn": region.end_column,
        }
    return {
        "ruleId": note.rule,
        "ruleIndex": rule,
        "level": "warning" if note.verdict in _WARNINGS else "note",
        "message": {"text": _message(note.text)},
        "locations": [{"physicalLocation": physical}],
        "partialFingerprints": {"statement/v1": note.identity},
        "properties": _properties(note),
    }


def _properties(note: Note) -> dict[str, Any]:
    values: dict[str, Any] = {"claim": note.claim.id, "verdict": note.verdict.value}
    row = note.row
    if row is not None:
        figures = {"value": row.value, "low": row.low, "high": row.high, "threshold": row.threshold}
        values |= {name: value for name, value in figures.items() if value is not None}
        texts = {"unit": row.unit, "machine": row.machine, "date": row.date}
        values |= {name: text for name, text in texts.items() if text}
        values["evidence"] = json.loads(row.evidence or "[]")
    return values


def _message(text: str) -> str:
    """Plain text for a message, in which `[words](place)` would be a link and `{0}` a gap (3.11.5 and 3.11.6)."""
    return re.sub(r"\]\(", "] (", text).replace("{", "{{").replace("}", "}}")
