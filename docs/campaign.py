"""What campaigns of faults found (`nox -s faults`), as the generated part of docs/faults.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def document(folder: Path) -> str:
    """The campaigns in a folder as Markdown, one for each kind of machine."""
    parts = [_campaign(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join(parts or ["No campaign is recorded yet."])


def _campaign(facts: Mapping[str, Any]) -> str:
    faults, inputs = facts["faults"], facts["inputs"]
    head = (
        f"**{_sum(faults, 'number'):,} faults, after {_sum(faults, 'broken')} of which something did not hold; "
        f"{_sum(inputs, 'number'):,} inputs, {_sum(inputs, 'broken')} of which broke something; "
        f"{facts['seconds'] / 60:.0f} minutes** on {facts['machine']}, of commit `{facts['commit'][:12]}`."
    )
    if late := sum(own.get("late", 0) for own in faults.values()):
        head += f" {late} more came too late, when the run had ended, and are not counted."
    lines = [
        head,
        _table(
            ("fault", "what is done", "what must hold", "faults", "broken", "what was seen"),
            [(name, own["what"], own["holds"], *_counts(own)) for name, own in faults.items()],
        ),
        _table(
            ("input", "what it is", "tried", "broken", "what was seen"),
            [(name, own["what"], *_counts(own)) for name, own in inputs.items()],
        ),
    ]
    if facts["lacking"]:
        told = "; ".join(f"{name} ({why})" for name, why in facts["lacking"].items())
        lines.append(f"Not possible on that machine: {told}.")
    if facts["broken"]:
        lines.append("What did not hold, as it was told:")
        lines.append("\n".join(f"* {_plain(text)}" for text in facts["broken"]))
    return "\n\n".join(lines)


def _counts(own: Mapping[str, Any]) -> tuple[object, ...]:
    seen = sorted(own["seen"].items(), key=lambda one: (-one[1], one[0]))
    return own["number"], own["broken"], ", ".join(f"{word} {count}" for word, count in seen)


def _sum(table: Mapping[str, Any], column: str) -> int:
    return sum(own[column] for own in table.values())


def _table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(_plain(str(value)) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A text on one line without what Markdown or a table would take for its own."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")
