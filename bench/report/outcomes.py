"""What became of each cell: reasons for missing numbers, what the runtimes attest, and the facts of the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from bench.reasons import Status
from bench.store.reading import Run, StoredCell
from bench.words.locale import Locale, texts
from bench.words.numbers import MISSING, clean


@dataclass(frozen=True)
class Problem:
    """Cells that share a status, a reason code and the words of the cause."""

    text: str
    cells: tuple[StoredCell, ...]
    asked: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class ProblemGroup:
    """All problems of one status and reason code, with the general explanation of that code."""

    status: str
    code: str
    explanation: str
    problems: tuple[Problem, ...]

    @property
    def count(self) -> int:
        """Number of cells in the group."""
        return sum(len(problem.cells) for problem in self.problems)


def words(language: str) -> Locale:
    """The texts of a language.  Raises UsageError when the files of the two languages differ in their keys."""
    return texts("terminal", language)


def problems(run: Run, locale: Locale) -> tuple[ProblemGroup, ...]:
    """Cells that lack numbers, by status and reason code, equal texts together; measured ones if they have a reason."""
    groups, report = [], texts("report", locale.language)
    for status in (Status.INVALID, Status.FAILED, Status.SKIPPED, Status.MEASURED):
        cells = [cell for cell in run.with_status(status) if cell.reason_code or status is not Status.MEASURED]
        for code in dict.fromkeys(cell.reason_code for cell in cells):
            by_text: dict[str, list[StoredCell]] = {}
            for cell in cells:
                if cell.reason_code == code:
                    # What a runtime ran is particular to its cell: an invalid row never shares another's text.
                    key = cell.reason if status is not Status.INVALID else f"{cell.reason}\0{cell.cell_id}"
                    by_text.setdefault(key, []).append(cell)
            listed = tuple(
                Problem(same[0].reason, tuple(same), differences(same[0], report) if status is Status.INVALID else ())
                for same in by_text.values()
            )
            groups.append(ProblemGroup(status.value, code, explanation(code, locale), listed))
    return tuple(groups)


def explanation(code: str, locale: Locale) -> str:
    """What a reason code means; a code of a later version is named as unknown."""
    return locale.strings.get(f"reason.{code}", locale("unknown"))


def differences(cell: StoredCell, locale: Locale) -> tuple[tuple[str, str, str], ...]:
    """(key, asked, ran) for every expected key that the runtime did not confirm, in the words of the report."""
    return tuple(
        (key, asked, cell.attested.get(key, locale("attestation.not_reported")))
        for key, asked in cell.expected.items()
        if not confirms(asked, cell.attested.get(key))
    )


def confirms(asked: str, ran: str | None) -> bool:
    """True when an attested value is the one asked for; letter case is the runtime's own habit."""
    return ran is not None and asked.casefold() == ran.casefold()


def attestation(
    run: Run, locale: Locale
) -> tuple[tuple[str, ...], tuple[tuple[StoredCell, tuple[tuple[str, str], ...]], ...]]:
    """Keys, and per cell the (text, mark) of each key; mark is yes, no or empty where nothing was asked.

    Keys that something was asked of come first, then the others in the order in which they first appear.  A value that
    the runtime only declares says so, and confirms nothing: it has no mark, unless it is another than was asked.
    """
    cells = tuple(cell for cell in run.cells if cell.attested or cell.expected)
    keys = dict.fromkeys(key for cell in cells for key in cell.expected)
    keys |= dict.fromkeys(key for cell in cells for key in cell.attested if key != "declared")
    return tuple(keys), tuple((cell, tuple(_attested(cell, key, locale) for key in keys)) for cell in cells)


def asked(run: Run) -> int:
    """How many keys of `attestation` something was asked of; they are its first."""
    return len({key for cell in run.cells for key in cell.expected})


def _attested(cell: StoredCell, key: str, locale: Locale) -> tuple[str, str]:
    """Text and mark of a key of a cell's attestation."""
    ran, asked = cell.attested.get(key), cell.expected.get(key)
    if asked is not None and not confirms(asked, ran):
        return locale("attestation.asked", ran=ran or locale("attestation.not_reported"), asked=asked), "no"
    if key in cell.declared:
        return locale("attestation.declared", ran=ran) if ran else locale("attestation.declared_alone"), ""
    return ran or MISSING, "" if asked is None else "yes"


def environment(run: Run, hidden: Mapping[str, frozenset[str]]) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Facts by scope in the order run, machine, core, environments; `hidden` names keys to leave out per scope."""
    rank = {"run": 0, "machine": 1, "core": 2}
    scopes = sorted({fact.scope for fact in run.facts}, key=lambda scope: (rank.get(scope, 3), scope))
    return tuple(
        (clean(scope), facts)
        for scope in scopes
        if (
            facts := tuple(
                (fact.key, _plain(fact.value))
                for fact in run.facts
                if fact.scope == scope and fact.key not in hidden.get(scope, frozenset())
            )
        )
    )


def _plain(value: str) -> str:
    """A JSON list as its items with commas between them; anything else as it is."""
    if not value.startswith("["):
        return value
    try:
        items = json.loads(value)
    except json.JSONDecodeError:
        return value
    return ", ".join(clean(str(item)) for item in items)
